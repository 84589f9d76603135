"""What earlier runs took: the timings of stored samples, cell by cell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi.cell import FLOOR, FULL
from lofi.errors import UserError
from lofi.store import odd_columns, read_metadata

PHASES = """
    SELECT dataset, method, keep, count(DISTINCT image_hash) AS images, count(*) AS answers,
        avg(n_text_tokens) AS text, avg(n_generated) AS drawn,
        avg(mean_visual_tokens) AS visual, first(n_kept_per_layer) AS layers, first(n_visual_full) AS n,
        sum(t_vision_ms) / 1000 AS vision_s, sum(t_select_ms + t_prefill_ms) / 1000 AS prefill_s,
        sum(t_decode_ms) / 1000 AS decode_s, first(device) AS device
    FROM read_parquet(?, union_by_name = true)
    WHERE status = 'ok'
    GROUP BY dataset, method, keep, seed, filename
"""


@dataclass(frozen=True)
class Timing:
    """One stored cell: what it asked of the model, and the seconds of each stage."""

    dataset: str
    method: str
    keep: str
    images: int
    answers: int
    text: float  # mean tokens of a question
    drawn: float  # mean tokens of an answer
    visual: float  # mean visual tokens over layers and images
    layers: Sequence[int]  # visual tokens at each layer of the first answer
    n: int  # visual tokens of its image
    vision_s: float
    prefill_s: float  # with the selection before it
    decode_s: float
    device: str

    @property
    def is_reference(self) -> bool:
        """Whether it encoded its pictures for itself; other cells of a job share one encoding."""
        return self.method in (FULL, FLOOR)


def stored_files(results: Path, model: str) -> list[Path]:
    """The sample files of one model."""
    return sorted(results.glob(f"samples/model={model}/dataset=*/method=*/keep=*/seed=*/shard-*.parquet"))


def read_timings(files: Sequence[Path]) -> list[Timing]:
    """The timings in sample files, one for each file; where devices differ, those of the one with most answers."""
    if not files:
        return []
    import duckdb

    _refuse_odd(files)
    with duckdb.connect() as connection:
        try:
            rows = connection.execute(PHASES, [[str(file) for file in files]]).fetchall()
        except duckdb.Error as error:
            said, _, _ = str(error).partition("\n\nLINE ")  # then comes a drawing of the place in the SQL
            reason = " ".join(said.split())[:200]
            raise UserError(
                f"stored samples cannot be read ({reason}); `lofi status` says which to run again"
            ) from None
    found = [Timing(*row) for row in rows]
    answers: Counter[str] = Counter()
    for timing in found:
        answers[timing.device] += timing.answers
    return [timing for timing in found if timing.device == answers.most_common(1)[0][0]]


def _refuse_odd(files: Sequence[Path]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            odd = odd_columns(pq.read_schema(file))
        except (OSError, ValueError, pa.ArrowException) as error:
            odd = f"cannot be read ({error})"
        if odd:
            raise UserError(f"stored samples cannot be read: {file} {odd}; `lofi status` says which to run again")


def device_of(file: Path) -> str:
    """The device that a sample file was made on, in words."""
    metadata = read_metadata(file)
    device = str(metadata.get("device", "an unknown device"))
    return f"{device} ({metadata['machine']['processor']})" if device == "cpu" and "machine" in metadata else device
