"""Every method on a model in half precision: rows are good, counts are as asked, the plain path agrees."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lofi.cell import FULL, KEEP_ALL, Cell, kept_count
from lofi.data.images import open_image
from lofi.engine.calibrate import calibrate
from lofi.engine.job import Job
from lofi.engine.parts import open_session
from lofi.engine.plain import run_plain
from lofi.engine.session import Session
from lofi.engine.stages import evaluate, reference
from lofi.methods.registry import METHODS as REDUCERS
from lofi.methods.registry import get_reducer

from .engine_setup import METHODS, make_job, make_sweep
from .test_clip_text import save_clip

NAME, N = "digits-vqa", 144
EVERY: dict[str, Any] = {**METHODS, **{name: {} for name, reducer in REDUCERS.items() if "tower" in reducer.needs}}
EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the distance of neighbours at 1


@pytest.fixture(scope="module", params=["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def job(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path
) -> Job:
    root = tmp_path_factory.mktemp(request.param)
    tower = str(save_clip(root / "clip", width=32))
    sweep = make_sweep(
        tiny_model,
        digits,
        models={"tiny": {"source": str(tiny_model), "batch_images": 2, "text_tower": tower, "dtype": request.param}},
        datasets={NAME: {"source": str(digits / NAME), "limit": 2}},
        methods=EVERY,
        keeps=[0.25],
    )
    job = make_job(root, sweep, NAME)
    reference(job)
    evaluate(job, job.cells())
    return job


@pytest.fixture(scope="module")
def session(job: Job) -> Session:
    session = open_session(job)
    session.fitted = calibrate(session, job, job.cells())
    return session


def rows_of(job: Job, cell: Cell) -> list[dict[str, Any]]:
    return pq.read_table(job.published(cell)).to_pylist()


def test_every_row_is_good_and_its_counts_are_as_asked(job: Job) -> None:
    cells = (Cell("tiny", NAME, FULL, KEEP_ALL), *job.cells())
    assert {job.method(cell).reducer for cell in cells} == set(REDUCERS)
    for cell in cells:
        rows = rows_of(job, cell)
        assert {(row["status"], row["error"], row["dtype"]) for row in rows} == {("ok", None, job.model.dtype)}, cell
        method, asked = job.method(cell), kept_count(cell.keep, N)
        count, budget = get_reducer(method.reducer).count, dict(method.params).get("budget", "tokens")
        kept = [row["n_visual_kept"] for row in rows]
        if count == "own":
            assert all(0 <= k <= N for k in kept)
        elif count == "calibrated":
            assert np.mean(kept) == pytest.approx(asked, abs=1)
        elif budget == "tokens":
            assert set(kept) == {asked}
        else:
            assert all(row["mean_visual_tokens"] == pytest.approx(asked, abs=1) for row in rows)
        for row in rows:
            assert all(np.isfinite(row[name]) for name in ("margin", "logsumexp", "kl_full_to_this", "js", "tv"))
            assert row["kept_indices"] is None or len(set(row["kept_indices"])) == row["n_visual_kept"]


def test_the_full_model_is_no_further_from_itself_than_rounding(job: Job) -> None:
    rows = rows_of(job, Cell("tiny", NAME, FULL, KEEP_ALL))
    assert {row["kl_full_to_this"] for row in rows} == {0.0}


def test_where_the_same_tokens_are_kept_the_plain_path_gives_the_same_logits(job: Job, session: Session) -> None:
    photo = job.photos(job.spans[0])[1]
    doc = photo.docs[-1]
    agreed, worst = [], 0.0
    for cell in (Cell("tiny", NAME, FULL, KEEP_ALL), *job.cells()):
        (row,) = [row for row in rows_of(job, cell) if row["sample_id"] == doc.sample_id]
        plain = run_plain(session, open_image(photo.content), photo.key, doc.prompt, cell, job.method(cell), 0)
        merged = row["kept_indices"] is None
        same = row["n_visual_kept"] == len(plain.kept) if merged else row["kept_indices"] == sorted(plain.kept.tolist())
        assert same or not merged
        agreed.append((cell.method, same))
        if same:
            logp = plain.logits.double().log_softmax(-1)
            away = max(
                abs(a - float(logp[i])) for a, i in zip(row["topk_logprobs"], row["topk_token_ids"], strict=True)
            )
            worst = max(worst, away)
    share = np.mean([good for _, good in agreed])
    print(
        f"{job.model.dtype}: same tokens in {share:.0%} of {len(agreed)} cells, worst log-probability off by {worst:.2g}"
    )
    print([name for name, good in agreed if not good])
    assert share > 0.8
    assert worst < 8 * EPSILON[job.model.dtype]
