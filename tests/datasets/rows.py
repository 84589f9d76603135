"""Made-up rows of every dataset: row i shows picture i, and the rows after those ten are what is odd about a dataset."""

from collections.abc import Callable
from typing import Any

from tests.datasets.pictures import PICTURES, plain

Row = dict[str, Any]
Picture = bytes | None

YES_NO = ("Yes", "No")


def _gqa(i: int, _: Picture) -> Row:
    row = {"id": f"07{i}", "imageId": f"n{i}", "question": f"What is on shelf {i}?", "answer": f"jar {i}"}
    return row | {"isBalanced": True, "groups": {"global": "g", "local": "l"}}


def _vqav2_val(i: int, picture: Picture) -> Row:
    said = ["red"] * 6 + ["blue"] * 4
    answers = [{"answer": each, "answer_confidence": "yes", "answer_id": at} for at, each in enumerate(said, start=1)]
    row = {"question_type": "what color", "multiple_choice_answer": "red", "answers": answers, "answer_type": "other"}
    return row | {"image_id": 500 + i, "question_id": 5000 + i, "question": f"What color is box {i}?", "image": picture}


def _vizwiz_val(i: int, picture: Picture) -> Row:
    row = {"question_id": f"VizWiz_val_{i:08d}.jpg", "question": "WHAT is This?", "category": "other"}
    return row | {"answers": ["unanswerable", "soup", "soup", "unanswerable", "a can"], "image": picture}


def _scienceqa_img(i: int, picture: Picture) -> Row:
    row = {"question": f"Which is {i}?", "choices": ["nan", "a bird", "a fish"], "answer": i % 3, "image": picture}
    return row | {"hint": "Birds fly." if i % 2 else "", "subject": "natural science", "topic": "biology"}


def _textvqa_val(i: int, picture: Picture) -> Row:
    row = {"image_id": f"a{i // 2}", "question_id": 34600 + i, "question": "what is the Brand?", "image": picture}
    return row | {"answers": ["nous", "Nous", "nous les gosses"] + ["nous"] * 7, "ocr_tokens": ["NOUS", "GOSSES"]}


def _pope(i: int, picture: Picture) -> Row:
    row = {"id": str(i), "question_id": str(i), "question": f" Is there a {i}? ", "answer": YES_NO[i % 2].lower()}
    return row | {"image_source": f"COCO_val2014_{i:012d}", "image": picture, "category": "adversarial"}


def _mme(i: int, picture: Picture) -> Row:
    question = f"Is this {i}? Please answer yes or no."
    row = {"question_id": f"OCR/{i:04d}.jpg", "question": question, "answer": YES_NO[i % 2], "category": "OCR"}
    return row | {"image": picture}


def _mmbench(i: int, picture: Picture) -> Row:
    row = {"index": i, "question": f"Which is {i}?", "hint": "nan", "A": "red", "B": "blue", "C": "nan", "D": "nan"}
    row |= {"answer": "AB"[i % 2], "category": "color", "source": "made", "L2-category": "perception", "split": "dev"}
    return row | {"image": picture, "comment": "nan"}


def _seedbench_image(i: int, picture: Picture) -> Row:
    row = {f"choice_{letter}": f"{letter}{i}" for letter in "abcd"}
    row |= {"answer": "ABCD"[i % 4], "data_id": f"d{i}", "data_type": "image", "question": f"Which is {i}?"}
    return row | {"question_id": f"q{i}", "question_type_id": 1 + i % 2, "image": [] if picture is None else [picture]}


def _ai2d(i: int, picture: Picture) -> Row:
    return {"question": f"Which is {i}?", "options": ["x", "y", "z"], "answer": str(i % 3), "image": picture}


def _mmmu_val(i: int, picture: Picture) -> Row:
    row = {"id": f"validation_Art_{i}", "question": f"<image 1> Which is {i}?", "options": "['it\\'s x', 'y']"}
    row |= {"answer": "B", "question_type": "multiple-choice", "subfield": "Drawing", "topic_difficulty": "Easy"}
    return row | {"image_1": picture, "img_type": "['Paintings']", "explanation": ""}


def _mmstar(i: int, picture: Picture) -> Row:
    row = {"index": i, "question": f"Which is {i}?\nOptions: A: red, big, B: blue, C: a, b, D: none.", "answer": "C"}
    return row | {"category": "math", "l2_category": "geometry", "image": picture}


def _realworldqa(i: int, picture: Picture) -> Row:
    question = f"Where is {i}?\n\nA. Left\nB. Right\nPlease answer directly with only the letter of the correct option."
    return {"question": question, "answer": "B", "image": picture, "image_path": f"{i}.webp"}


def _chartqa(i: int, picture: Picture) -> Row:
    kind = ("human_test", "augmented_test")[i % 2]
    return {"type": kind, "question": f"How many in {i}?", "answer": f"{i}.5%", "image": picture}


def _docvqa_val(i: int, picture: Picture) -> Row:
    row = {"questionId": str(49_000 + i), "question": f"What is the date on {i}?", "image": picture, "docId": 10 + i}
    return row | {"answers": ["May 5", "5 May"], "question_types": ["handwritten"], "data_split": "val"}


def _ocrbench(i: int, picture: Picture) -> Row:
    row = {"dataset": "IIIT5K", "question": " what is written? ", "question_type": "Regular Text Recognition"}
    return row | {"answer": ["EXIT", "exit"], "image": picture}


def _hallusionbench(i: int, picture: Picture) -> Row:
    row = {"category": "VS", "subcategory": "map", "visual_input": "1", "set_id": str(i // 4), "sample_note": "made"}
    row |= {
        "figure_id": str(i // 2 % 2),
        "question_id": str(i % 2),
        "question": f"Is {i} north?",
        "gt_answer": "01"[i % 2],
    }
    return row | {"image": picture, "filename": f"{i}.png"}


MAKERS: dict[str, Callable[[int, Picture], Row]] = {
    "gqa": _gqa,
    "vqav2_val": _vqav2_val,
    "vizwiz_val": _vizwiz_val,
    "scienceqa_img": _scienceqa_img,
    "textvqa_val": _textvqa_val,
    "textvqa_val_ocr": _textvqa_val,
    "pope": _pope,
    "mme": _mme,
    "mmbench_en_dev": _mmbench,
    "mmbench_cn_dev": _mmbench,
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
RED, BLUE = plain("red"), plain("blue")
_ROTATED = {"index": 1_000_000, "A": "blue", "B": "red", "answer": "B"}
_LONG = {"hint": "Look up.", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "D"}
# Rows 10 and on: what they change of the row that their maker gives.
ODD: dict[str, tuple[Row, ...]] = {
    "gqa": ({"imageId": "n0"}, {"imageId": "lost"}),
    "vqav2_val": ({"image_id": 500, "image": RED, "question_type": "none of the above"},),
    "vizwiz_val": ({"answers": ["one"] * 4, "image": BLUE},),
    "scienceqa_img": ({"choices": ["a", "b", "c", "d", "e"], "answer": 4, "hint": "nan", "image": RED},),
    "textvqa_val": ({"ocr_tokens": [], "image": RED},),
    "textvqa_val_ocr": ({"ocr_tokens": [], "image": RED},),
    "pope": ({"question_id": "0", "category": "random", "image": RED}, {"question_id": "0", "image": RED}),
    "mme": (
        {"question_id": "OCR/0000.jpg", "image": RED, "answer": "No"},
        {"question_id": "code_reasoning/0000.png", "category": "code_reasoning", "image": BLUE},
    ),
    "mmbench_en_dev": ({**_ROTATED, "image": RED}, {**_LONG, "image": BLUE}),
    "mmbench_cn_dev": ({**_ROTATED, "image": RED}, {**_LONG, "image": BLUE}),
    "seedbench_image": (
        {"data_type": "video", "image": [RED, BLUE], "segment": [0, 8]},
        {"choice_d": "nan", "answer": "C", "image": [RED]},
        {"image": [RED, BLUE]},
    ),
    "ai2d": ({"options": ["nan", "None"], "answer": "1", "image": RED},),
    "mmmu_val": (
        {"image_1": RED, "image_2": BLUE, "question": "Compare <image 1> and <image 2>."},
        {"image_1": RED, "question_type": "open", "options": "[]", "answer": "['0.5', '1/2']"},
        {"image_1": RED, "question_type": "open", "options": "[]", "answer": "42"},
        {"image_2": BLUE},
    ),
    "mmstar": (
        {"question": "Which?\nChoices:\n(A) one\n(B) two", "answer": "B", "image": RED},
        {"question": "Is A. Smith here? It has no list.", "answer": "A", "image": RED},
    ),
    "realworldqa": (
        {"question": "How many?\nPlease answer directly with a single word or number.", "answer": "3", "image": RED},
    ),
    "chartqa": ({"type": "human_test", "answer": "Yes", "image": RED},),
    "docvqa_val": ({"docId": 10, "answers": ["x", "y", "y"], "image": RED},),
    "ocrbench": (
        {
            "dataset": "HME100k",
            "question_type": "Handwritten Mathematical Expression Recognition",
            "answer": [r"\frac { 1 } { 2 }"],
            "image": RED,
        },
    ),
    "hallusionbench": ({"category": "VD", "image": RED},),
}


def rows_of(name: str) -> list[Row]:
    """The rows of a made dataset, in the columns of `SCHEMAS`."""
    make = MAKERS[name]
    rows = [make(i, picture) for i, picture in enumerate(PICTURES)]
    return rows + [make(i, None) | change for i, change in enumerate(ODD[name], start=len(PICTURES))]
