"""Training of the embedded models: stages learn, killed runs end where uninterrupted ones do, prompts are real."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from lofi.cli import main
from lofi.data.digits.questions import LETTERS, SKILLS, Question, lettered_question
from lofi.data.digits.scenes import GRID, TRAIN_GLYPHS
from lofi.errors import UserError
from lofi.models.processor import load_processor
from lofi.training.encoder import Encoder, encoder_loss, scene_targets, train_encoder
from lofi.training.language import Reader, Seen, reader_loss
from lofi.training.llava import LLAVA
from lofi.training.loop import Schedule, fit, generator_of
from lofi.training.packs import IGNORE, LETTER_WIDTH, OPEN_WIDTH, build_pack, letter_question, open_question
from lofi.training.pictures import Pictures, draw_pictures, warped_masks
from lofi.training.qwen import QWEN
from lofi.training.reading import PHASES, Features, cache_features, held_out_packs, phase_at, thinned, train_reader
from lofi.training.student import Student
from lofi.training.train import PLANS, Plan, train

CPU = torch.device("cpu")
STUDENTS = (LLAVA, QWEN)
CONFIGS = {s.name: s.build_config(width=32, layers=4, vision_width=32, vision_layers=2) for s in STUDENTS}
SHORT = Schedule(steps=5, rate=1e-3, batch=4, warmup=2, decay=2, save_every=2, report_every=100)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(0, 24, split="train", warps=2)


@pytest.fixture(scope="module")
def held_out() -> Pictures:
    return draw_pictures(1, 4, split="evaluation")


@pytest.fixture(scope="module", params=STUDENTS, ids=lambda student: student.name)
def student(request: pytest.FixtureRequest) -> Student:
    chosen: Student = request.param
    return chosen


def new_encoder(student: Student) -> Encoder:
    torch.manual_seed(0)
    return Encoder(student, CONFIGS[student.name])


def new_reader(student: Student) -> Reader:
    torch.manual_seed(0)
    return Reader(student, student.build_model(CONFIGS[student.name]))


@pytest.fixture(scope="module")
def features(student: Student, pictures: Pictures) -> Features:
    return cache_features(student, new_encoder(student).tower, pictures, CPU)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors: on a busy machine two threads spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_encoder_learns(student: Student, pictures: Pictures, held_out: Pictures, tmp_path: Path) -> None:
    encoder = new_encoder(student)

    def loss() -> float:
        with torch.no_grad():
            pixels = student.pixels(pictures.images)
            return encoder_loss(encoder, pixels, pictures.digits, pictures.colours).item()

    before = loss()
    schedule = Schedule(steps=25, rate=3e-3, batch=8, warmup=1, report_every=1000)
    train_encoder(
        encoder, pictures, held_out, checkpoint=tmp_path / "e.safetensors", seed=0, device=CPU, schedule=schedule
    )
    assert loss() < 0.7 * before


def test_the_reader_learns_and_so_does_every_one_of_its_losses(
    student: Student, features: Features, held_out: Pictures, tmp_path: Path
) -> None:
    reader = new_reader(student)
    scenes = features.pictures.scenes[:8]
    rng = np.random.default_rng(0)
    questions = [[lettered_question("color", s, rng) for _ in range(3)] for s in scenes]
    batch = build_pack(student.dialect, scenes, questions, LETTER_WIDTH)

    def losses() -> dict[str, float]:
        with torch.no_grad():
            return {name: loss.item() for name, loss in reader_loss(reader, features.at(slice(8)), batch).items()}

    before = losses()
    schedule = Schedule(steps=40, rate=3e-3, batch=4, warmup=1, report_every=1000)
    few = Features(pictures=held_out, values=features.values[: len(held_out)])  # only for the report
    train_reader(reader, features, few, checkpoint=tmp_path / "r.safetensors", seed=0, device=CPU, schedule=schedule)
    after = losses()
    assert set(after) == {"answer", "align", "words", "options", "known"}
    worse = {name: (before[name], after[name]) for name in PHASES[0].losses if after[name] >= before[name]}
    assert not worse
    assert after["answer"] < 0.8 * before["answer"]


@pytest.mark.parametrize("name", ["encoder", "reader"])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    name: str, student: Student, pictures: Pictures, features: Features, held_out: Pictures, tmp_path: Path
) -> None:
    def stage(checkpoint: str, stop_after: int | None) -> tuple[int, dict[str, Tensor]]:
        common = {"checkpoint": tmp_path / checkpoint, "seed": 0, "device": CPU, "schedule": SHORT}
        if name == "encoder":
            network: nn.Module = new_encoder(student)
            done = train_encoder(network, pictures, held_out, stop_after=stop_after, **common)
        else:
            network = new_reader(student)
            few = Features(pictures=held_out, values=features.values[: len(held_out)])  # only for the report
            done = train_reader(network, features, few, stop_after=stop_after, **common)
        return done, network.state_dict()

    _, whole = stage("whole.safetensors", None)
    assert stage("killed.safetensors", 3)[0] == 3  # the checkpoint is of step 2: the third step is lost and done again
    done, resumed = stage("killed.safetensors", None)
    assert done == 5
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    kept, again = ((tmp_path / f"{run}.safetensors").read_bytes() for run in ("whole", "killed"))
    assert kept == again, "the state of the optimiser, too"
    _, early = stage("early.safetensors", 3)
    assert not all(torch.equal(whole[key], early[key]) for key in whole)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    schedule = Schedule(steps=3, rate=0.1, save_every=1, report_every=100)
    steps: list[int] = []

    def loss_of(step: int) -> Tensor:
        steps.append(step)
        return network(torch.ones(2)).square().sum()

    assert fit(network, loss_of, schedule=schedule, checkpoint=tmp_path / "c.safetensors") == 3
    assert fit(network, loss_of, schedule=schedule, checkpoint=tmp_path / "c.safetensors") == 3
    assert steps == [0, 1, 2]


def test_a_checkpoint_is_tensors_and_a_number_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight  # as tied embeddings are
    checkpoint = tmp_path / "c.safetensors"
    schedule = Schedule(steps=2, rate=0.1, save_every=1, report_every=100)

    def loss_of(step: int) -> Tensor:
        return network(torch.ones(2)).square().sum()

    fit(network, loss_of, schedule=schedule, checkpoint=checkpoint)
    with safe_open(checkpoint, framework="pt") as file:
        assert file.metadata() == {"step": "2"}
        names = set(file.keys())
    assert {"weights.0.weight", "weights.1.weight", "optimiser.0.exp_avg", "optimiser.1.step"} <= names
    whole = checkpoint.read_bytes()
    for damaged in (b"", whole[:-4], b"\x80\x04" + whole[2:]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cannot be read .* remove it to train this stage again"):
            fit(network, loss_of, schedule=schedule, checkpoint=checkpoint)


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


def test_packs_mark_answers_and_options(student: Student, held_out: Pictures) -> None:
    rng = np.random.default_rng(0)
    questions = [[letter_question(skill, s, rng) for skill in (*SKILLS, "lookup")] for s in held_out.scenes]
    batch = build_pack(student.dialect, held_out.scenes, questions, LETTER_WIDTH)
    tokens = student.build_processor().tokenizer
    for row, asked in enumerate(questions):
        for column, question in enumerate(asked):
            ids, options = batch.ids[row, column], batch.options[row, column]
            words = tokens.convert_ids_to_tokens(ids[options != IGNORE])
            assert tuple(words) == question.choices
            right = tokens.convert_ids_to_tokens(ids[options == 1])
            assert right == [question.choices[LETTERS.index(question.answer)]]
            answer = ids[batch.answer_at[row, column] :][:2]
            assert tokens.convert_ids_to_tokens(answer) == [question.answer, student.dialect.end]
            assert int((batch.weights[row, column] > 0).sum()) == 2


def ordinary_logits(student: Student, model: Any, picture: NDArray[np.uint8], prompt: str) -> Tensor:
    """What the model itself makes of the processor's output, behind the prompt: (vocabulary,)."""
    processor = student.build_processor()
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    logits: Tensor = model(**processor(text=text, images=Image.fromarray(picture), return_tensors="pt")).logits
    return logits[0, -1]


@torch.no_grad()
@pytest.mark.parametrize(
    ("width", "ask", "skills"),
    [(OPEN_WIDTH, open_question, ("existence", "color", "count")), (LETTER_WIDTH, letter_question, SKILLS)],
)
def test_the_training_layout_is_the_ordinary_prompt(
    student: Student, held_out: Pictures, width: int, ask: Callable[..., Question], skills: tuple[str, ...]
) -> None:
    """The packed reader predicts what the Hugging Face model does from processor output."""
    torch.manual_seed(0)
    model = student.build_model(CONFIGS[student.name]).eval()
    reader = Reader(student, model).eval()
    sight = student.look(student.tower_of(model), student.pixels(held_out.images))
    rng = np.random.default_rng(0)
    questions = [[ask(skill, scene, rng) for skill in skills] for scene in held_out.scenes[:2]]
    batch = build_pack(student.dialect, held_out.scenes[:2], questions, width)
    seen = Features(pictures=held_out, values=sight.patches).at(slice(2))
    states, layout, _ = reader(seen, batch)
    packed = reader.head(layout.grid(states[-1]))
    for row, asked in enumerate(questions):
        for column, question in enumerate(asked):
            mine = packed[row, column, batch.answer_at[row, column] - 1]
            logits = ordinary_logits(student, model, held_out.images[row], question.prompt)
            torch.testing.assert_close(mine, logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_cached_features_are_what_the_model_reads(student: Student, held_out: Pictures) -> None:
    torch.manual_seed(0)
    model = student.build_model(CONFIGS[student.name]).eval()
    inputs = student.build_processor().image_processor(
        images=[Image.fromarray(image) for image in held_out.images], return_tensors="pt"
    )
    assert torch.equal(inputs["pixel_values"].flatten(), student.pixels(held_out.images).flatten())
    read = torch.stack(tuple(model.get_image_features(**inputs).pooler_output))  # (b, n, d)
    cached = cache_features(student, student.tower_of(model), held_out, CPU)
    projected = student.projector_of(model)(cached.values.float())
    torch.testing.assert_close(projected, read, atol=5e-3, rtol=5e-3)  # features are kept as float16


@torch.no_grad()
def test_visual_tokens_stand_where_their_patches_do(student: Student) -> None:
    """Another colour in one patch of 8 x 8 pixels changes the patch embedding of that token and of no other."""
    torch.manual_seed(0)
    tower = student.build_tower(student.build_config(width=32, vision_width=32, vision_layers=1)).eval()
    plain = np.full((1, 96, 96, 3), 128, dtype=np.uint8)
    for place in (0, 17, 143):
        row, column = divmod(place, GRID)
        marked = plain.copy()
        marked[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (255, 0, 0)
        values = [student.look(tower, student.pixels(picture)).patches[0] for picture in (plain, marked)]
        assert int((values[1] - values[0]).norm(dim=1).argmax()) == place


def test_thinning_keeps_every_digit_and_the_place_of_every_token(features: Features) -> None:
    seen = features.at(slice(6))
    for draw in range(5):
        kept = thinned(seen, np.random.default_rng(draw))
        assert (kept.places.diff(dim=1) > 0).all()
        assert ((kept.digits > 0).sum(1) == (seen.digits > 0).sum(1)).all()
        for name in ("digits", "colours"):
            assert torch.equal(getattr(kept, name), getattr(seen, name).gather(1, kept.places))
        rows = torch.arange(6)[:, None]
        assert torch.equal(kept.features, seen.features[rows, kept.places])


@torch.no_grad()
def test_kept_tokens_of_qwen_keep_their_places(held_out: Pictures) -> None:
    """The library's own model, whose prompt loses the same tokens and keeps the positions of the rest."""
    torch.manual_seed(0)
    model = QWEN.build_model(CONFIGS[QWEN.name]).eval()
    reader, processor = Reader(QWEN, model).eval(), QWEN.build_processor()
    question = open_question("count", held_out.scenes[0], np.random.default_rng(0))
    content = [{"type": "image"}, {"type": "text", "text": question.prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=text, images=Image.fromarray(held_out.images[0]), return_tensors="pt")
    places, _ = model.model.get_rope_index(
        inputs["input_ids"], image_grid_thw=inputs["image_grid_thw"], mm_token_type_ids=inputs["mm_token_type_ids"]
    )
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    visual = inputs["input_ids"][0] == model.config.image_token_id
    features = model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output[0]
    embeds[0, visual] = features
    kept = ~visual
    kept[visual.nonzero().squeeze(1)[::7]] = True
    wanted = model(inputs_embeds=embeds[:, kept], position_ids=places[:, :, kept]).logits[0, -1]

    batch = build_pack(QWEN.dialect, held_out.scenes[:1], [[question]], OPEN_WIDTH)
    sight = QWEN.look(QWEN.tower_of(model), QWEN.pixels(held_out.images[:1]))
    every = Features(pictures=held_out, values=sight.patches).at(slice(1))
    seen = Seen(**{name: value[:, ::7] for name, value in vars(every).items()})
    states, layout, _ = reader(seen, batch)
    mine = reader.head(layout.grid(states[-1])[0, 0, batch.answer_at[0, 0] - 1])
    torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-4)


def test_every_step_has_a_phase_and_every_skill_is_asked(held_out: Pictures) -> None:
    assert [phase_at(step) for step in (0, PHASES[0].until, 10**6)] == [PHASES[0], PHASES[1], PHASES[-1]]
    assert set(PHASES[-1].mix.letters) >= set(SKILLS)
    skills = {skill for _, batch in held_out_packs(LLAVA.dialect, held_out, 0) for row in batch.skills for skill in row}
    assert skills >= {"existence", "color", "reading", "count", "presence"}


def test_the_whole_rule_writes_a_model_that_loads(student: Student, tmp_path: Path) -> None:
    plan = Plan(
        student=student,
        config=CONFIGS[student.name],
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
    train(plan, tmp_path / "model", tmp_path / "work", device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    train(plan, tmp_path / "model", tmp_path / "work", device="cpu")  # resumes finished stages
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == first
    load_processor(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.float32
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "float32"
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"lofi train-digits --model {student.name}" in card
    assert "CC BY 4.0" in card
    assert "digits-sqa" in card


def test_every_plan_is_on_the_command_line_by_the_name_of_its_student(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train-digits", "--help"])
    assert "--model {" + ",".join(plan.student.name for plan in PLANS.values()) + "}" in capsys.readouterr().out
    assert all(plan.student.name == name for name, plan in PLANS.items())
