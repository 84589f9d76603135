import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi.cell import NAME, Cell, keep_text, kept_count
from lofi.errors import UserError


def test_path():
    cell = Cell("llava", "pope", "lofi", keep_text(0.25), 3)
    assert cell.path(12) == "samples/model=llava/dataset=pope/method=lofi/keep=0.2500/seed=3/shard-0012.parquet"
    assert str(cell) == "llava / pope / lofi / keep 0.2500 / seed 3"


@pytest.mark.parametrize(
    ("keep", "text"), [(0.25, "0.2500"), (0.0625, "0.0625"), (1, "1.0000"), (1.0, "1.0000"), (2, "2"), (576, "576")]
)
def test_keep_text(keep, text):
    assert keep_text(keep) == text


@pytest.mark.parametrize(
    "keep", [0, 0.0, -0.5, 1.5, 36.0, -3, float("nan"), float("inf"), 0.33333, 1e-5, True, "0.5", None]
)
def test_keep_text_refuses(keep):
    with pytest.raises(UserError, match="keep"):
        keep_text(keep)


@given(st.integers(1, 10_000))
def test_a_share_has_one_spelling(ten_thousandths):
    text = keep_text(ten_thousandths / 10_000)
    assert keep_text(float(text)) == text
    assert round(float(text) * 10_000) == ten_thousandths


@pytest.mark.parametrize(
    ("keep", "n", "k"), [("0.2500", 144, 36), ("0.0625", 144, 9), ("1.0000", 7, 7), ("0.0001", 10, 1), ("36", 144, 36)]
)
def test_kept_count(keep, n, k):
    assert kept_count(keep, n) == k


@given(st.integers(1, 10_000), st.integers(1, 5000))
def test_kept_count_is_within_bounds_and_near_the_share(ten_thousandths, n):
    share = ten_thousandths / 10_000
    k = kept_count(keep_text(share), n)
    assert 1 <= k <= n
    assert abs(k - share * n) <= 0.5 or k == 1


def test_kept_count_above_n():
    with pytest.raises(UserError, match="keep 200 asks for more tokens than the 144"):
        kept_count("200", 144)


@pytest.mark.parametrize("name", ["lofi", "llava-1.5-7b", "a", "0", "A_b.c+d-e"])
def test_names(name):
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "a b", "{x}", "a=b", "ä", "a\n", "..", "a*"])
def test_names_that_are_no_path(name):
    assert not NAME.fullmatch(name)
