"""The edit distance of two texts, which scorers and statistics share."""


def edits(one: str, other: str) -> int:
    """The fewest characters to insert, delete or replace between two texts.

    A column of the usual table at a time, as the bits of two numbers: where it goes up by one, where down by one
    (Myers 1999 in the form of Hyyrö 2003).
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for at, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << at
    every, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = every, 0, len(one)
    for letter in other:
        match = places.get(letter, 0)
        same = (((match & up) + up) ^ up) | match | down
        grown, shrunk = (down | ~(same | up)) & every, same & up
        distance += bool(grown & last) - bool(shrunk & last)
        grown, shrunk = (grown << 1 | 1) & every, (shrunk << 1) & every
        up, down = (shrunk | ~(same | grown)) & every, same & grown
    return distance
