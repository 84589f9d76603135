"""What the made datasets must become: every field of every doc, written out apart from the code that makes them."""

from collections.abc import Callable
from typing import Any

Fields = dict[str, Any]

WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
SEVERAL = "the question shows 2 images, and lofi asks about one; it counts as an error"
MMSTAR = LETTER.removesuffix(".")
REALWORLD = "\nPlease answer directly with only the letter of the correct option."


def _gqa(i: int) -> Fields:
    return {
        "sample_id": f"07{i}",
        "cluster_id": f"n{i}",
        "target": f"jar {i}",
        "prompt": f"What is on shelf {i}?{WORD}",
    }


def _vqav2_val(i: int) -> Fields:
    fields = {"sample_id": f"{5000 + i}", "cluster_id": f"{500 + i}", "prompt": f"What color is box {i}?{WORD}"}
    fields |= {"category": "other", "l2_category": "what color"}
    return fields | {"target": "red", "targets": ("red",) * 6 + ("blue",) * 4}


def _vizwiz_val(i: int) -> Fields:
    said = ("unanswerable", "soup", "soup", "unanswerable", "a can")
    fields = {"sample_id": f"VizWiz_val_0000000{i}.jpg", "category": "other", "target": said[0], "targets": said}
    unanswerable = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
    return fields | {"prompt": f"What is this?{unanswerable}{WORD}"}


def _scienceqa_img(i: int) -> Fields:
    fields = _letters(i, ("nan", "a bird", "a fish"), "ABC"[i % 3])
    fields |= {"sample_id": f"00000{i}", "category": "natural science", "l2_category": "biology"}
    hint = "Context: Birds fly.\n" if i % 2 else ""
    return fields | {"prompt": f"{hint}Which is {i}?\nA. nan\nB. a bird\nC. a fish{LETTER}"}


def _textvqa_val(i: int, ocr: str = "") -> Fields:
    said = ("nous", "Nous", "nous les gosses", *["nous"] * 7)
    fields = {"sample_id": f"{34600 + i}", "cluster_id": f"a{i // 2}", "target": "nous", "targets": said}
    return fields | {"prompt": f"What is the brand?{ocr}{WORD}"}


def _textvqa_val_ocr(i: int) -> Fields:
    return _textvqa_val(i, "\nReference OCR token: NOUS, GOSSES")


def _pope(i: int) -> Fields:
    fields = _yes_no("no" if i % 2 else "yes")
    return fields | {
        "sample_id": f"adversarial-{i}",
        "category": "adversarial",
        "prompt": f"Is there a {i}?{WORD}",
    }


def _mme(i: int) -> Fields:
    fields = _yes_no("no" if i % 2 else "yes")
    return fields | {"sample_id": f"OCR/000{i}.jpg", "category": "OCR", "prompt": f"Is this {i}?{WORD}"}


def _mmbench_en_dev(i: int, lead: str = "", instruction: str = f"\n{LETTER}") -> Fields:
    fields = _letters(i, ("red", "blue"), "AB"[i % 2])
    fields |= {"sample_id": str(i), "category": "color", "l2_category": "perception"}
    return fields | {"prompt": f"{lead}Which is {i}? There are several options:\nA. red\nB. blue{instruction}"}


def _mmbench_cn_dev(i: int) -> Fields:
    return _mmbench_en_dev(i, "nan ", "\n\n请直接使用所提供的选项字母作为答案回答。")


def _seedbench_image(i: int) -> Fields:
    fields = _letters(i, (f"a{i}", f"b{i}", f"c{i}", f"d{i}"), "ABCD"[i % 4])
    fields |= {"sample_id": f"q{i}", "category": "2" if i % 2 else "1"}
    return fields | {"prompt": f"Which is {i}?\nA. a{i}\nB. b{i}\nC. c{i}\nD. d{i}{LETTER}"}


def _ai2d(i: int) -> Fields:
    return _letters(i, ("x", "y", "z"), "ABC"[i % 3]) | {
        "sample_id": f"00000{i}",
        "prompt": f"Which is {i}?\nA. x\nB. y\nC. z{LETTER}",
    }


def _mmmu_val(i: int) -> Fields:
    fields = _letters(i, ("it's x", "y"), "B")
    fields |= {"sample_id": f"validation_Art_{i}", "category": "Drawing", "l2_category": "Easy"}
    return fields | {"prompt": f"<image 1> Which is {i}?\nA. it's x\nB. y\n{LETTER}"}


def _mmstar(i: int) -> Fields:
    fields = _letters(i, ("red, big", "blue", "a, b", "none."), "C")
    fields |= {"sample_id": str(i), "category": "math", "l2_category": "geometry"}
    return fields | {"prompt": f"Which is {i}?\nOptions: A: red, big, B: blue, C: a, b, D: none.{MMSTAR}"}


def _realworldqa(i: int) -> Fields:
    fields = _letters(i, ("Left", "Right"), "B")
    return fields | {"sample_id": f"00000{i}", "prompt": f"Where is {i}?\n\nA. Left\nB. Right{REALWORLD}"}


def _chartqa(i: int) -> Fields:
    fields = {"sample_id": f"00000{i}", "category": "augmented_test" if i % 2 else "human_test", "target": f"{i}.5%"}
    return fields | {"prompt": f"How many in {i}?\nAnswer the question with a single word."}


def _docvqa_val(i: int) -> Fields:
    fields = {"sample_id": f"4900{i}", "target": "May 5", "targets": ("May 5", "5 May")}
    return fields | {"prompt": f"What is the date on {i}?{WORD}"}


def _ocrbench(i: int) -> Fields:
    fields = {"sample_id": f"00000{i}", "category": "IIIT5K", "l2_category": "Regular Text Recognition"}
    return fields | {"target": "EXIT", "targets": ("EXIT", "exit"), "prompt": "what is written?"}


def _hallusionbench(i: int) -> Fields:
    fields = _yes_no("yes" if i % 2 else "no") | {"category": "VS", "l2_category": "map", "prompt": f"Is {i} north?"}
    place, figure, question = i // 4, i // 2 % 2, i % 2
    fields |= {"sample_id": f"VS_map_{place}_{figure}_{question}", "figure_id": f"VS_map_{place}_{figure}"}
    return fields | {"group_id": f"VS_map_{place}_{question}"}


def _letters(i: int, options: tuple[str, ...], target: str) -> Fields:
    return {"task_type": "mcq", "options": options, "option_labels": tuple("ABCDE"[: len(options)]), "target": target}


def _yes_no(target: str) -> Fields:
    return {"task_type": "yesno", "option_labels": ("yes", "no"), "target": target}


BASES: dict[str, Callable[[int], Fields]] = {
    "gqa": _gqa,
    "vqav2_val": _vqav2_val,
    "vizwiz_val": _vizwiz_val,
    "scienceqa_img": _scienceqa_img,
    "textvqa_val": _textvqa_val,
    "textvqa_val_ocr": _textvqa_val_ocr,
    "pope": _pope,
    "mme": _mme,
    "mmbench_en_dev": _mmbench_en_dev,
    "mmbench_cn_dev": _mmbench_cn_dev,
    "seedbench_image": _seedbench_image,
    "ai2d": _ai2d,
    "mmmu_val": _mmmu_val,
    "mmstar": _mmstar,
    "realworldqa": _realworldqa,
    "chartqa": _chartqa,
    "docvqa_val": _docvqa_val,
    "ocrbench": _ocrbench,
    "hallusionbench": _hallusionbench,
}
_OPEN: Fields = {"task_type": "open", "options": (), "option_labels": ()}
_FOUR: Fields = {"options": ("1", "2", "3", "4"), "option_labels": ("A", "B", "C", "D"), "target": "D"}
_ASKED = "There are several options:\nA."
# Rows 10 and on: what they change of the row that their base gives; None is a row that is not taken.
CHANGES: dict[str, tuple[Fields | None, ...]] = {
    "gqa": (
        {"cluster_id": "n0"},
        {"cluster_id": "lost", "image_error": "no row of testdev_balanced_images, split testdev has id 'lost'"},
    ),
    "vqav2_val": ({"cluster_id": "500", "l2_category": "none of the above"},),
    "vizwiz_val": ({"sample_id": "VizWiz_val_00000010.jpg", "target": "one", "targets": ("one",) * 4},),
    "scienceqa_img": (
        {
            **_letters(10, ("a", "b", "c", "d", "e"), "E"),
            "sample_id": "000010",
            "prompt": f"Which is 10?\nA. a\nB. b\nC. c\nD. d\nE. e{LETTER}",
        },
    ),
    "textvqa_val": ({},),
    "textvqa_val_ocr": ({"prompt": f"What is the brand?\nReference OCR token: {WORD}"},),
    "pope": (
        {"sample_id": "random-0", "category": "random"},
        {"sample_id": "adversarial-0#2"},
    ),
    "mme": (
        {"sample_id": "OCR/0000.jpg#2", "group_id": "OCR/0000.jpg", "target": "no"},
        {"sample_id": "code_reasoning/0000.png", "category": "code_reasoning"},
    ),
    "mmbench_en_dev": (
        {"sample_id": "1000000", "group_id": "0", "options": ("blue", "red"), "target": "B"}
        | {"prompt": f"Which is 10? {_ASKED} blue\nB. red\n{LETTER}"},
        _FOUR | {"prompt": f"Look up. Which is 11? {_ASKED} 1\nB. 2\nC. 3\nD. 4\n{LETTER}"},
    ),
    "mmbench_cn_dev": (
        {"sample_id": "1000000", "group_id": "0", "options": ("blue", "red"), "target": "B"}
        | {"prompt": f"nan Which is 10? {_ASKED} blue\nB. red\n\n请直接使用所提供的选项字母作为答案回答。"},
        _FOUR
        | {"prompt": f"Look up. Which is 11? {_ASKED} 1\nB. 2\nC. 3\nD. 4\n\n请直接使用所提供的选项字母作为答案回答。"},
    ),
    "seedbench_image": (
        None,
        {"options": ("a11", "b11", "c11"), "option_labels": ("A", "B", "C"), "target": "C"}
        | {"prompt": f"Which is 11?\nA. a11\nB. b11\nC. c11{LETTER}"},
        {"image_error": SEVERAL},
    ),
    "ai2d": (
        {
            **_letters(10, ("nan", "None"), "B"),
            "sample_id": "000010",
            "prompt": f"Which is 10?\nA. nan\nB. None{LETTER}",
        },
    ),
    "mmmu_val": (
        {"image_error": SEVERAL, "prompt": f"Compare <image 1> and <image 2>.\nA. it's x\nB. y\n{LETTER}"},
        _OPEN | {"target": "0.5", "targets": ("0.5", "1/2"), "prompt": f"<image 1> Which is 11?\n{WORD}"},
        _OPEN | {"target": "42", "prompt": f"<image 1> Which is 12?\n{WORD}"},
        {},
    ),
    "mmstar": (
        {**_letters(10, ("one", "two"), "B"), "prompt": f"Which?\nChoices:\n(A) one\n(B) two{MMSTAR}"},
        {"options": (), "target": "A", "prompt": f"Is A. Smith here? It has no list.{MMSTAR}"},
    ),
    "realworldqa": (
        _OPEN
        | {"sample_id": "000010", "target": "3"}
        | {"prompt": "How many?\nPlease answer directly with a single word or number."},
    ),
    "chartqa": ({"sample_id": "000010", "category": "human_test", "target": "Yes"},),
    "docvqa_val": ({"sample_id": "49010", "target": "y", "targets": ("x", "y", "y")},),
    "ocrbench": (
        {"sample_id": "000010", "category": "HME100k", "target": r"\frac { 1 } { 2 }"}
        | {"l2_category": "Handwritten Mathematical Expression Recognition", "targets": (r"\frac { 1 } { 2 }",)},
    ),
    "hallusionbench": (
        {"sample_id": "VD_map_2_1_0", "group_id": "VD_map_2_0", "figure_id": "VD_map_2_1", "category": "VD"},
    ),
}
