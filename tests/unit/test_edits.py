import random

from lofi.edits import edits


def slow_edits(one, other):
    """The usual table, cell by cell."""
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        before, row = row, [i]
        for j, yours in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (mine != yours)))
    return row[-1]


def test_edits_equal_the_table():
    rng = random.Random(0)
    words = ["".join(rng.choice("ab ü") for _ in range(rng.randrange(40))) for _ in range(120)]
    for one, other in zip(words, reversed(words), strict=True):
        assert edits(one, other) == slow_edits(one, other) == edits(other, one)


def test_edits_by_hand():
    assert edits("kitten", "sitting") == 3
    assert edits("", "abc") == edits("abc", "") == 3
