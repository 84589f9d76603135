"""As many rows as VQAv2 has prepare in bounded memory."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lofi.data.registry import get_card
from lofi.store import read_metadata

from .test_prepare import VQA

CARD = get_card("vqav2_val")
SHARDS = 8
GIGABYTE = 2**30
RUN = """
import resource, sys
from pathlib import Path
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
prepare(get_card("vqav2_val"), Path(sys.argv[2]), prompt_style="lmms_eval", source=sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def picture(number: int) -> bytes:
    """A distinct small photograph."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_folder(folder: Path, questions: int, images: int) -> None:
    """Questions in the hub's columns, those of one image side by side, each row with its image's bytes."""
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: validation\n    path: data/validation-*\n---\n"
    )
    for shard, numbers in enumerate(np.array_split(np.arange(questions), SHARDS)):
        file = folder / "data" / f"validation-{shard:05d}-of-{SHARDS:05d}.parquet"
        with pq.ParquetWriter(file, VQA.arrow_schema) as writer:
            for part in np.array_split(numbers, max(1, len(numbers) // 1000)):
                pictures = {image: picture(image) for image in {int(n) * images // questions for n in part}}
                rows = [row(int(n), int(n) * images // questions) for n in part]
                stored = [{**each, "image": {"bytes": pictures[each["image_id"]], "path": None}} for each in rows]
                writer.write_table(pa.Table.from_pylist(stored, schema=VQA.arrow_schema))


def row(number: int, image: int) -> dict[str, object]:
    said = [{"answer": f"answer {number % 97}", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    return {
        "question_type": f"what {number % 60}",
        "multiple_choice_answer": f"answer {number % 97}",
        "answers": said,
        "image_id": image,
        "answer_type": "other",
        "question_id": number,
        "question": f"What is the thing number {number} in the corner of this photograph?",
    }


@pytest.mark.slow
def test_the_questions_of_vqav2_prepare_within_two_gigabytes(tmp_path: Path) -> None:
    write_folder(tmp_path / "hub", CARD.n_questions, CARD.n_images)
    command = [sys.executable, "-c", RUN, str(tmp_path / "hub"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pq.ParquetFile(tmp_path / "out" / "docs.parquet").metadata.num_rows == CARD.n_questions == 214_354
    assert read_metadata(tmp_path / "out" / "docs.parquet")["n_images"] == CARD.n_images == 40_504
    peak = int(done.stdout)
    print(f"peak {peak / GIGABYTE:.2f} GiB")
    assert peak < 2 * GIGABYTE
