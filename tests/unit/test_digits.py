"""Digit scenes and their three datasets: schemas of the hub, right answers, same bytes, no training handwriting."""

import hashlib
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import datasets
import numpy as np
import pytest

from lofi.data.digits.folder import LAYOUTS, asked_scenes, write_folder
from lofi.data.digits.questions import LETTERS, Question, caption, negatives
from lofi.data.digits.scenes import (
    COMPANION,
    GAP,
    GRID,
    TRAIN_GLYPHS,
    Scene,
    draw,
    glyphs_of,
    handwritten,
    sample_scene,
)

IMAGES = 12
COLUMNS = {
    "digits-pope": "id question_id question answer image_source image category",
    "digits-sqa": "image question choices answer hint task grade subject topic category skill lecture solution",
    "digits-vqa": "question_type multiple_choice_answer answers image_id answer_type question_id question image",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    for name in LAYOUTS:
        write_folder(name, root / name, n_images=IMAGES)
    return root


def load(folders: Path, name: str) -> datasets.Dataset:
    layout = LAYOUTS[name]
    cache = str(folders / "cache")
    return datasets.load_dataset(str(folders / name), layout.config, split=layout.split, cache_dir=cache)


def truth(question: str, scene: Scene) -> set[str]:
    """All right answers, read off the scene by another way than the builders'."""
    words = question.rstrip("?").split()
    placed = {str(p.digit): p.colour for p in scene.placed}
    if question.startswith("Is there a"):
        return {"yes" if words[3] in placed else "no"}
    if question.startswith("What color"):
        return {placed[words[-1]]}
    if question == "Which number is in the image?":
        return set(placed)
    if question.startswith("Which number is"):
        return {digit for digit, colour in placed.items() if colour == words[-1]}
    if question.startswith("How many"):
        return {str(len(placed))}
    raise AssertionError(question)


def test_scenes_keep_their_promises() -> None:
    for index in range(300):
        scene = sample_scene(0, index, split="evaluation")
        assert 3 <= len(set(scene.digits)) == len(scene.placed) <= 5
        cells = [(p.row, p.column) for p in scene.placed]
        assert cells == sorted(cells)
        assert all(0 <= row <= GRID - 2 and 0 <= column <= GRID - 2 for row, column in cells)
        for i, (row, column) in enumerate(cells):
            assert all(abs(row - r) >= GAP or abs(column - c) >= GAP for r, c in cells[:i])


def test_drawing_is_a_function_of_the_scene_and_shows_the_digit_where_it_stands() -> None:
    scene = sample_scene(3, 1, split="evaluation")
    picture = draw(scene)
    assert picture.shape == (96, 96, 3)
    assert np.array_equal(picture, draw(scene))
    for placed in scene.placed:
        others = tuple(p for p in scene.placed if p is not placed)
        changed = (draw(replace(scene, placed=others)).astype(int) - picture) != 0
        window = np.zeros((96, 96), bool)
        top, left = placed.row * 8 + placed.dy, placed.column * 8 + placed.dx
        window[top : top + 16, left : left + 16] = True
        assert changed.any(-1)[window].mean() > 0.3


def test_evaluation_handwriting_never_trains() -> None:
    train, evaluation = (np.concatenate(glyphs_of(split)) for split in ("train", "evaluation"))
    assert train.max() == TRAIN_GLYPHS - 1
    assert evaluation.min() == TRAIN_GLYPHS
    assert len(train) + len(evaluation) == len(handwritten()[1]) == 1797
    for name in LAYOUTS:
        for scene, _ in asked_scenes(name, n_images=50, seed=0):
            assert all(p.glyph >= TRAIN_GLYPHS and p.variant == 0 for p in scene.placed)
    for index in range(200):
        assert all(p.glyph < TRAIN_GLYPHS for p in sample_scene(0, index, split="train", variants=3).placed)


def test_the_label_of_every_placed_digit_is_its_handwriting() -> None:
    labels = handwritten()[1]
    scenes = [sample_scene(0, index, split="evaluation") for index in range(50)]
    assert all(labels[p.glyph] == p.digit for scene in scenes for p in scene.placed)


def test_companions_come_together_more_often_than_chance() -> None:
    scenes = [set(sample_scene(5, index, split="train").digits) for index in range(2000)]
    pairs = [(a, b) for a in range(10) for b in range(10) if a != b]
    together = {pair: sum({*pair} <= scene for scene in scenes) for pair in pairs}
    friends = np.mean([together[d, COMPANION[d]] for d in range(10)])
    assert friends > 1.5 * np.mean(list(together.values()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_answer_is_right(name: str) -> None:
    for scene, questions in asked_scenes(name, n_images=150, seed=0):
        assert len(questions) == 4
        assert len({q.text for q in questions}) == len(questions)
        for question in questions:
            right = truth(question.text, scene)
            if not question.choices:
                assert {question.answer} == right
                continue
            assert len(set(question.choices)) == 4
            assert [LETTERS[i] for i, choice in enumerate(question.choices) if choice in right] == [question.answer]


def test_pope_is_balanced_and_its_negatives_differ() -> None:
    asked = [q for _, questions in asked_scenes("digits-pope", n_images=60, seed=0) for q in questions]
    counts = Counter((q.category, q.answer) for q in asked)
    assert counts["adversarial", "yes"] == counts["adversarial", "no"] == 60
    assert counts["popular", "yes"] == counts["popular", "no"] > 20
    assert counts["random", "yes"] == counts["random", "no"] == 60 - counts["popular", "no"]
    rng = np.random.default_rng(0)
    for index in range(100):
        scene = sample_scene(1, index, split="evaluation")
        chosen = negatives(scene, rng)
        assert len(set(chosen.values())) == 3
        assert not set(chosen.values()) & set(scene.digits)
        tempting = {COMPANION[d] for d in scene.digits} - set(scene.digits)
        assert not tempting or chosen["adversarial"] in tempting


def test_letters_are_spread_evenly() -> None:
    asked = [q for _, questions in asked_scenes("digits-sqa", n_images=300, seed=0) for q in questions]
    counts = Counter(q.answer for q in asked)
    assert all(abs(counts[letter] / len(asked) - 0.25) < 0.05 for letter in LETTERS)


def test_prompts_have_the_suffixes_of_llava() -> None:
    short = Question("Is there a 7 in the image?", "yes", "existence")
    assert short.prompt == "Is there a 7 in the image?\nAnswer the question using a single word or phrase."
    lettered = Question("What color is the 7?", "B", "color", choices=("red", "blue", "green", "yellow"))
    assert lettered.prompt == (
        "What color is the 7?\nA. red\nB. blue\nC. green\nD. yellow"
        "\nAnswer with the option's letter from the given choices directly."
    )


def test_captions_name_all_digits_in_raster_order() -> None:
    scene = sample_scene(0, 0, split="train")
    assert caption(scene).split()[1::2] == [str(digit) for digit in scene.digits]


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_load_like_the_originals(folders: Path, name: str) -> None:
    loaded = load(folders, name)
    assert loaded.column_names == COLUMNS[name].split()
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded[0]["image"].size == (96, 96)
    asked = [(scene, q) for scene, qs in asked_scenes(name, n_images=IMAGES, seed=0) for q in qs]
    assert loaded["question"][:] == [q.text for _, q in asked]
    for row, (scene, _) in zip(loaded, asked, strict=True):
        assert np.array_equal(np.asarray(row["image"]), draw(scene))


def test_column_types_are_those_of_the_hub(folders: Path) -> None:
    sqa, vqa = load(folders, "digits-sqa"), load(folders, "digits-vqa")
    assert sqa.features["answer"].dtype == "int8"
    assert sqa.features["choices"] == datasets.List(datasets.Value("string"))
    assert vqa.features["question_id"].dtype == vqa.features["image_id"].dtype == "int64"
    assert len(set(vqa["question_id"])) == len(vqa)
    for row in vqa:
        assert [a["answer"] for a in row["answers"]] == [row["multiple_choice_answer"]] * 10
        assert [a["answer_id"] for a in row["answers"]] == list(range(1, 11))
    assert len(set(load(folders, "digits-pope")["question_id"])) == IMAGES * 4


def test_same_seed_same_bytes_other_seed_other_scenes(folders: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        (file,) = (folder / "data").iterdir()
        return hashlib.sha256(file.read_bytes()).hexdigest()

    write_folder("digits-vqa", tmp_path / "same", n_images=IMAGES)
    write_folder("digits-vqa", tmp_path / "other", n_images=IMAGES, seed=1)
    assert digest(tmp_path / "same") == digest(folders / "digits-vqa")
    assert digest(tmp_path / "other") != digest(folders / "digits-vqa")
    firsts = [next(iter(asked_scenes(name, n_images=1, seed=0)))[0] for name in LAYOUTS]
    assert len(set(firsts)) == len(LAYOUTS)


def test_unknown_names_and_empty_datasets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits-pope"):
        write_folder("digits-coco", tmp_path)
    with pytest.raises(ValueError, match="at least one image"):
        write_folder("digits-pope", tmp_path, n_images=0)


PROMPTS = {
    "digits-llava": "USER: <image>\n{question} ASSISTANT:",
    "digits-qwen": "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n"
    "<|im_start|>assistant\n",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_the_shipped_model_loads_by_auto_classes_and_answers(name: str) -> None:
    from lofi.training.measure import measure

    directory = Path(str(files("lofi"))) / "assets" / name
    assert (directory / "model.safetensors").stat().st_size < 4_000_000
    accuracy = measure(directory, n_images=8)
    assert all(scores["all"] > 0.8 for scores in accuracy.values()), accuracy


@pytest.mark.parametrize("name", PROMPTS)
def test_the_shipped_processor_makes_144_visual_tokens(name: str) -> None:
    from transformers import AutoModelForImageTextToText

    from lofi.models.processor import load_processor

    directory = Path(str(files("lofi"))) / "assets" / name
    processor = load_processor(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory)
    scene, questions = next(iter(asked_scenes("digits-vqa", n_images=1, seed=0)))
    content = [{"type": "image"}, {"type": "text", "text": questions[0].prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert text == PROMPTS[name].format(question=questions[0].prompt)
    inputs = processor(text=text, images=draw(scene), return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 144
    assert processor.tokenizer.unk_token_id not in inputs["input_ids"]
    assert model.dtype.is_floating_point
    assert str(model.dtype) == "torch.float32"
