"""FastV keeps exactly the tokens that each of the authors' three versions keeps."""

import re

import pytest

from lofi.methods.registry import METHODS
from lofi.methods.select import select_stage

from .decoding import attention_of_weights, going_on, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "fastv")
LMMS_START = 35  # where that version supposes the image, whatever the prompt
N = int(GOLDEN["n_image"])


def keep(row: str, start: int, k: int) -> tuple[list[int], list[int]]:
    """The columns that go on, and their positions."""
    rows = GOLDEN.tensor(row)
    seen = view(rows.shape[1], start, N, layer=3, attention=attention_of_weights(2, rows))
    selection = select_stage("fastv", seen, k, seed=0, params={"layer": 3})
    return going_on(seen, selection, METHODS["fastv"].positions)


def number(case: str) -> int:
    return int(re.findall(r"(\d+)_", case)[0])


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"inplace_rank\d+_keep", name)])
def test_the_version_with_counts(case: str) -> None:
    assert GOLDEN["last_row"].shape[1] == int(GOLDEN["seq_len"])
    kept, positions = keep("last_row", int(GOLDEN["sys_len"]), number(case))
    assert kept == GOLDEN[case].tolist()
    assert positions == GOLDEN[case.replace("_keep", "_position_ids")].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"hf_r\d+_keep", name)])
def test_the_version_with_removed_shares(case: str) -> None:
    k = round(N * (1 - number(case) / 1000))
    assert keep("hf_last_row", int(GOLDEN["hf_start"]), k)[0] == GOLDEN[case].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"lmms_keep\d+_keep", name)])
def test_the_version_with_kept_shares(case: str) -> None:
    assert keep("last_row", LMMS_START, int(N * number(case) / 1000))[0] == GOLDEN[case].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
