import pytest

from lofi.stats.texts import anls, normal_text, token_f1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" The  cat, a DOG. ", "cat dog"),
        ("\uff21\uff22\uff23 \ufb01sh", "abc fish"),
        ("don't", "don t"),
        ("\u00bfque?", "que"),
        ("a", ""),
        ("", ""),
    ],
)
def test_normal_form(text, normal):
    assert normal_text(text) == normal
    assert normal_text(normal) == normal


@pytest.mark.parametrize(
    ("one", "other", "similar"),
    [
        ("cat", "cat", 1.0),
        ("", "", 1.0),
        ("", "cat", 0.0),
        ("cart", "cat", 0.75),
        ("ab", "ac", 0.0),  # half of it changes: no longer below the threshold
        ("abc", "axc", 1 - 1 / 3),
        ("\u4e2d\u6587\u5b57", "\u4e2d\u6587\u4e66", 1 - 1 / 3),  # characters count, not bytes
    ],
)
def test_anls(one, other, similar):
    assert anls(one, other) == anls(other, one) == pytest.approx(similar)


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [
        ("red dog", "red dog", 1.0),
        ("red dog", "dog red", 1.0),
        ("", "", 1.0),
        ("", "dog", 0.0),
        ("red dog", "blue dog", 0.5),
        ("dog dog", "dog", 2 / 3),  # a word counts as often as it is said
    ],
)
def test_token_f1(one, other, f1):
    assert token_f1(one, other) == token_f1(other, one) == pytest.approx(f1)
