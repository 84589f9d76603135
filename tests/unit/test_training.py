"""Training of digits-llava: each stage learns, a killed run ends where an uninterrupted one does, prompts are real."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPVisionModel

from lofi.data.digits.questions import LETTERS, SKILLS, lettered_question
from lofi.data.digits.scenes import GRID, TRAIN_GLYPHS
from lofi.training.encoder import Encoder, encoder_loss, pixels_of, scene_targets, train_encoder
from lofi.training.language import Reader, reader_loss
from lofi.training.loop import Schedule, fit, generator_of
from lofi.training.model import build_config, build_model, build_processor
from lofi.training.packs import IGNORE, LETTER_WIDTH, OPEN_WIDTH, build_pack, letter_question, open_question
from lofi.training.pictures import Pictures, draw_pictures, warped_masks
from lofi.training.reading import PHASES, Features, cache_features, held_out_packs, phase_at, train_reader
from lofi.training.train import Plan, train

CPU = torch.device("cpu")
CONFIG = build_config(width=32, layers=4, vision_width=32, vision_layers=2)
SHORT = Schedule(steps=5, rate=1e-3, warmup=2, decay=2, save_every=2, report_every=100)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(0, 24, split="train", warps=2)


@pytest.fixture(scope="module")
def held_out() -> Pictures:
    return draw_pictures(1, 4, split="evaluation")


def new_encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(CLIPVisionModel(CONFIG.vision_config))


def new_reader() -> Reader:
    torch.manual_seed(0)
    return Reader(build_model(CONFIG))


@pytest.fixture(scope="module")
def features(pictures: Pictures) -> Features:
    return cache_features(new_encoder().tower, pictures, CPU)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny tensors: on a busy machine two threads spend their time waiting for each other."""
    monkeypatch.setattr("lofi.training.encoder.BATCH", 8)
    monkeypatch.setattr("lofi.training.reading.BATCH", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_encoder_learns(pictures: Pictures, held_out: Pictures, tmp_path: Path) -> None:
    encoder = new_encoder()

    def loss() -> float:
        with torch.no_grad():
            return encoder_loss(encoder, pixels_of(pictures.images), pictures.digits, pictures.colours).item()

    before = loss()
    schedule = Schedule(steps=25, rate=3e-3, warmup=1, report_every=1000)
    train_encoder(encoder, pictures, held_out, checkpoint=tmp_path / "e.pt", seed=0, device=CPU, schedule=schedule)
    assert loss() < 0.7 * before


def test_the_reader_learns_and_so_does_every_one_of_its_losses(
    features: Features, held_out: Pictures, tmp_path: Path
) -> None:
    reader = new_reader()
    scenes = features.pictures.scenes[:8]
    rng = np.random.default_rng(0)
    batch = build_pack(scenes, [[lettered_question("color", s, rng) for _ in range(3)] for s in scenes], LETTER_WIDTH)
    labels = features.pictures.digits[:8], features.pictures.colours[:8]

    def losses() -> dict[str, float]:
        with torch.no_grad():
            return {n: v.item() for n, v in reader_loss(reader, features.values[:8].float(), batch, *labels).items()}

    before = losses()
    schedule = Schedule(steps=40, rate=3e-3, warmup=1, report_every=1000)
    few = Features(pictures=held_out, values=features.values[: len(held_out)])  # only for the report
    train_reader(reader, features, few, checkpoint=tmp_path / "r.pt", seed=0, device=CPU, schedule=schedule)
    after = losses()
    assert set(after) == {"answer", "align", "words", "options", "known"}
    worse = {name: (before[name], after[name]) for name in PHASES[0].losses if after[name] >= before[name]}
    assert not worse
    assert after["answer"] < 0.8 * before["answer"]


@pytest.mark.parametrize("name", ["encoder", "reader"])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    name: str, pictures: Pictures, features: Features, held_out: Pictures, tmp_path: Path
) -> None:
    def stage(checkpoint: str, stop_after: int | None) -> tuple[int, dict[str, Tensor]]:
        common = {"checkpoint": tmp_path / checkpoint, "seed": 0, "device": CPU, "schedule": SHORT}
        if name == "encoder":
            network: nn.Module = new_encoder()
            done = train_encoder(network, pictures, held_out, stop_after=stop_after, **common)
        else:
            network = new_reader()
            few = Features(pictures=held_out, values=features.values[: len(held_out)])  # only for the report
            done = train_reader(network, features, few, stop_after=stop_after, **common)
        return done, network.state_dict()

    _, whole = stage("whole.pt", None)
    assert stage("killed.pt", 3)[0] == 3  # the checkpoint is of step 2: the third step is lost and done again
    done, resumed = stage("killed.pt", None)
    assert done == 5
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    _, early = stage("early.pt", 3)
    assert not all(torch.equal(whole[key], early[key]) for key in whole)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    schedule = Schedule(steps=3, rate=0.1, save_every=1, report_every=100)
    steps: list[int] = []

    def loss_of(step: int) -> Tensor:
        steps.append(step)
        return network(torch.ones(2)).square().sum()

    assert fit(network, loss_of, schedule=schedule, checkpoint=tmp_path / "c.pt") == 3
    assert fit(network, loss_of, schedule=schedule, checkpoint=tmp_path / "c.pt") == 3
    assert steps == [0, 1, 2]


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=100, rate=1.0, warmup=10, decay=20)
    assert [schedule.rate_at(step) for step in (0, 9, 50, 80, 90)] == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.5])
    assert schedule.rate_at(99) == pytest.approx(0.05)


def test_generators_depend_on_every_number() -> None:
    draws = {int(torch.randint(2**60, (1,), generator=generator_of(*k))) for k in ((0, 1, 2), (0, 1, 3), (1, 1, 2))}
    assert len(draws) == 3
    assert torch.equal(torch.rand(3, generator=generator_of(4, 5)), torch.rand(3, generator=generator_of(4, 5)))


def test_only_training_handwriting_is_warped() -> None:
    bank = warped_masks(0, 2)
    assert bank[1, :TRAIN_GLYPHS].any(axis=(1, 2)).all()
    assert not bank[1, TRAIN_GLYPHS:].any()


def test_patch_labels_stand_on_the_digits(pictures: Pictures) -> None:
    for index, scene in enumerate(pictures.scenes):
        digits = pictures.digits[index].reshape(GRID, GRID)
        assert int((digits > 0).sum()) == 4 * len(scene.placed)
        for placed in scene.placed:
            block = digits[placed.row : placed.row + 2, placed.column : placed.column + 2]
            assert (block == placed.digit + 1).all()
    found = scene_targets(pictures.digits, pictures.colours)
    for row, scene in zip(found, pictures.scenes, strict=True):
        assert row[:10].nonzero().flatten().tolist() == sorted(scene.digits)


def test_packs_mark_answers_and_options(held_out: Pictures) -> None:
    rng = np.random.default_rng(0)
    questions = [[letter_question(skill, s, rng) for skill in (*SKILLS, "lookup")] for s in held_out.scenes]
    batch = build_pack(held_out.scenes, questions, LETTER_WIDTH)
    tokens = build_processor().tokenizer
    for row, asked in enumerate(questions):
        for column, question in enumerate(asked):
            ids, options = batch.ids[row, column], batch.options[row, column]
            words = tokens.convert_ids_to_tokens(ids[options != IGNORE])
            assert tuple(words) == question.choices
            right = tokens.convert_ids_to_tokens(ids[options == 1])
            assert right == [question.choices[LETTERS.index(question.answer)]]
            answer = ids[batch.answer_at[row, column] :][:2]
            assert tokens.convert_ids_to_tokens(answer) == [question.answer, "</s>"]
            assert int((batch.weights[row, column] > 0).sum()) == 2


def test_the_training_layout_is_the_ordinary_prompt(held_out: Pictures) -> None:
    """The packed reader predicts what the Hugging Face model does from processor output."""
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    reader, processor = Reader(model).eval(), build_processor()
    rng = np.random.default_rng(0)
    scenes = held_out.scenes[:2]
    for width, ask, skills in (
        (OPEN_WIDTH, open_question, ("existence", "color", "count")),
        (LETTER_WIDTH, letter_question, SKILLS),
    ):
        questions = [[ask(skill, scene, rng) for skill in skills] for scene in scenes]
        batch = build_pack(scenes, questions, width)
        cached = cache_features(model.model.vision_tower, held_out, CPU)
        with torch.no_grad():
            states = reader(cached.values[:2].float(), batch)[0][-1][:, len(reader.prefix) :]
            packed = reader.head(states.unflatten(1, batch.ids.shape[1:]))
            for row, asked in enumerate(questions):
                for column, question in enumerate(asked):
                    content = [{"type": "image"}, {"type": "text", "text": question.prompt}]
                    text = processor.apply_chat_template(
                        [{"role": "user", "content": content}], add_generation_prompt=True
                    )
                    image = Image.fromarray(held_out.images[row])
                    logits = model(**processor(text=text, images=image, return_tensors="pt")).logits[0, -1]
                    mine = packed[row, column, batch.answer_at[row, column] - 1]
                    torch.testing.assert_close(mine, logits, atol=5e-3, rtol=5e-3)  # features are kept as float16


def test_every_step_has_a_phase_and_every_skill_is_asked(held_out: Pictures) -> None:
    assert [phase_at(step) for step in (0, PHASES[0].until, 10**6)] == [PHASES[0], PHASES[1], PHASES[-1]]
    assert set(PHASES[-1].mix.letters) >= set(SKILLS)
    skills = {skill for _, batch in held_out_packs(held_out, 0) for row in batch.skills for skill in row}
    assert skills >= {"existence", "color", "reading", "count", "presence"}


def test_the_whole_rule_writes_a_model_that_loads(tmp_path: Path) -> None:
    plan = Plan(
        config=CONFIG,
        encoder=SHORT,
        reader=SHORT,
        layout=SHORT,
        encoder_scenes=8,
        reader_scenes=8,
        held_out_scenes=2,
        measured_images=2,
        warps=2,
    )
    state = torch.random.get_rng_state()
    train(tmp_path / "model", tmp_path / "work", plan=plan, device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    train(tmp_path / "model", tmp_path / "work", plan=plan, device="cpu")  # resumes two finished stages
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == first
    AutoProcessor.from_pretrained(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.float32
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "float32"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "CC BY 4.0" in card
    assert "digits-sqa" in card
