"""FastV keeps exactly the tokens that each of the authors' three versions keeps."""

import re

import pytest

from lofi.methods.registry import METHODS
from lofi.methods.select import select_stage

from .decoding import attention_of_weights, columns, placed, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "fastv")
LMMS_START = 35  # where that version supposes the image, whatever the prompt
N = int(GOLDEN["n_image"])


def keep(row: str, start: int, k: int) -> list[int]:
    rows = GOLDEN.tensor(row)
    seen = view(rows.shape[1], start, N, layer=3, attention=attention_of_weights(2, rows))
    return columns(seen, select_stage("fastv", seen, k, seed=0, params={"layer": 3}))


def number(case: str) -> int:
    return int(re.findall(r"(\d+)_", case)[0])


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"inplace_rank\d+_keep", name)])
def test_the_version_with_counts(case: str) -> None:
    kept = keep("last_row", int(GOLDEN["sys_len"]), number(case))
    assert kept == GOLDEN[case].tolist()
    length = int(GOLDEN["seq_len"])
    positions = placed(METHODS["fastv"].positions, range(length), kept)
    assert positions == GOLDEN[case.replace("_keep", "_position_ids")].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"hf_r\d+_keep", name)])
def test_the_version_with_removed_shares(case: str) -> None:
    k = round(N * (1 - number(case) / 1000))
    assert keep("hf_last_row", int(GOLDEN["hf_start"]), k) == GOLDEN[case].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"lmms_keep\d+_keep", name)])
def test_the_version_with_kept_shares(case: str) -> None:
    assert keep("last_row", LMMS_START, int(N * number(case) / 1000)) == GOLDEN[case].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
