"""The columns of every dataset as the hub's copies have them."""

import datasets

TEXT, INT64, INT32, BOOL = (datasets.Value(kind) for kind in ("string", "int64", "int32", "bool"))
TEXTS, IMAGE = datasets.List(TEXT), datasets.Image()


def _texts(names: str) -> dict[str, datasets.Value]:
    return dict.fromkeys(names.split(), TEXT)


_MMBENCH = datasets.Features(
    {
        "index": INT64,
        **_texts("question hint answer A B C D category"),
        "image": IMAGE,
        **_texts("source L2-category comment split"),
    }
)
_TEXTVQA = datasets.Features(
    {
        "image_id": TEXT,
        "question_id": INT32,
        "question": TEXT,
        "question_tokens": TEXTS,
        "image": IMAGE,
        "image_width": INT32,
        "image_height": INT32,
        **_texts("flickr_original_url flickr_300k_url"),
        "answers": TEXTS,
        "image_classes": TEXTS,
        "set_name": TEXT,
        "ocr_name": TEXTS,
        "ocr_tokens": TEXTS,
    }
)
SCHEMAS: dict[str, datasets.Features] = {
    "gqa": datasets.Features(
        {
            **_texts("id imageId question answer fullAnswer"),
            "isBalanced": BOOL,
            "groups": {"global": TEXT, "local": TEXT},
            **_texts("entailed equivalent"),
            "types": {"structural": TEXT, "semantic": TEXT, "detailed": TEXT},
            **_texts("semanticStr"),
        }
    ),
    "gqa_images": datasets.Features({"id": TEXT, "image": IMAGE}),
    "vqav2_val": datasets.Features(
        {
            **_texts("question_type multiple_choice_answer"),
            "answers": datasets.List({"answer": TEXT, "answer_confidence": TEXT, "answer_id": INT64}),
            "image_id": INT64,
            "answer_type": TEXT,
            "question_id": INT64,
            "question": TEXT,
            "image": IMAGE,
        }
    ),
    "vizwiz_val": datasets.Features(
        {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answers": TEXTS, "category": TEXT}
    ),
    "scienceqa_img": datasets.Features(
        {
            "image": IMAGE,
            "question": TEXT,
            "choices": TEXTS,
            "answer": datasets.Value("int8"),
            **_texts("hint task grade subject topic category skill lecture solution"),
        }
    ),
    "textvqa_val": _TEXTVQA,
    "textvqa_val_ocr": _TEXTVQA,
    "pope": datasets.Features(
        {**_texts("id question_id question answer image_source"), "image": IMAGE, "category": TEXT}
    ),
    "mme": datasets.Features({"question_id": TEXT, "image": IMAGE, **_texts("question answer category")}),
    "mmbench_en_dev": _MMBENCH,
    "mmbench_cn_dev": _MMBENCH,
    "seedbench_image": datasets.Features(
        {
            **_texts("answer choice_a choice_b choice_c choice_d data_id data_type question question_id"),
            "question_type_id": datasets.Value("int16"),
            "image": datasets.List(IMAGE),
            "segment": datasets.List(INT64),
        }
    ),
    "ai2d": datasets.Features({"question": TEXT, "options": TEXTS, "answer": TEXT, "image": IMAGE}),
    "mmmu_val": datasets.Features(
        {
            **_texts("id question options explanation"),
            **{f"image_{number}": IMAGE for number in range(1, 8)},
            **_texts("img_type answer topic_difficulty question_type subfield"),
        }
    ),
    "mmstar": datasets.Features(
        {
            "index": INT64,
            "question": TEXT,
            "image": IMAGE,
            **_texts("answer category l2_category"),
            "meta_info": {"source": TEXT, "split": TEXT, "image_path": TEXT},
        }
    ),
    "realworldqa": datasets.Features({"image": IMAGE, "image_path": TEXT, "question": TEXT, "answer": TEXT}),
    "chartqa": datasets.Features({**_texts("type question answer"), "image": IMAGE}),
    "docvqa_val": datasets.Features(
        {
            **_texts("questionId question"),
            "question_types": TEXTS,
            "image": IMAGE,
            "docId": INT64,
            **_texts("ucsf_document_id ucsf_document_page_no"),
            "answers": TEXTS,
            "data_split": TEXT,
        }
    ),
    "ocrbench": datasets.Features({**_texts("dataset question question_type"), "answer": TEXTS, "image": IMAGE}),
    "hallusionbench": datasets.Features(
        {
            **_texts("category subcategory visual_input set_id figure_id sample_note question_id question"),
            **_texts("gt_answer_details gt_answer filename"),
            "image": IMAGE,
        }
    ),
}
