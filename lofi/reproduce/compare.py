"""What of a manifest is another today, and how the report is made again."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lofi.errors import UserError
from lofi.reproduce.manifest import Facts, Manifest

NOTHING = "none"
NEVER_THE_SAME = {("tables", "timings")}  # of two runs
SHORT = 16  # digits of a hash that a line shows


@dataclass(frozen=True)
class Difference:
    """One thing, as it was and as it is."""

    what: str
    then: str
    now: str


def differences(then: Facts, now: Facts) -> list[Difference]:
    """Everything of the kinds that both know in which they differ."""
    found = []
    for kind in (kind for kind in then if kind in now):
        for name in dict.fromkeys([*then[kind], *now[kind]]):
            values = then[kind].get(name, NOTHING), now[kind].get(name, NOTHING)
            if values[0] != values[1] and (kind, name) not in NEVER_THE_SAME:
                found.append(Difference(f"{kind}: {name}", *values))
    return found


def compared(then: Facts, now: Facts) -> str:
    """How many of each kind were compared, in words."""
    counts = {
        kind: sum((kind, name) not in NEVER_THE_SAME for name in {*then[kind], *now[kind]})
        for kind in then
        if kind in now
    }
    return ", ".join(f"{kind} {count}" for kind, count in counts.items())


def lines(manifest: Manifest, found: Sequence[Difference], now: Facts, config: Path | None) -> Iterator[str]:
    """What `lofi reproduce` prints."""
    when, where = manifest.generated or "no date", manifest.commit or "no commit"
    yield _shown(f"a report of {when}, made at {where} by: {manifest.command}")
    yield f"compared: {compared(manifest.facts, now)}"
    if found:
        yield from _table(found)
    yield f"{len(found)} of them differ" if found else "nothing differs"
    if "tables" not in now:
        yield "its tables were not compared; after a run: add --results results"
        file = shlex.quote(str(config)) if config else "sweep.yaml"
        yield ("" if config else "--write-config sweep.yaml writes its config; then ") + (
            f"make it again with: snakemake --cores all --configfile {file}"
        )


def _table(found: Sequence[Difference]) -> Iterator[str]:
    """A column each for what, then and now."""
    rows = [("what", "then", "now"), *((_shown(each.what), *_pair(each.then, each.now)) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for row in rows:
        yield f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}"


def _pair(then: str, now: str) -> tuple[str, str]:
    """Both values, hashes cut short where that leaves them different."""
    both = tuple(value[:SHORT] + "…" if _is_hash(value) else value for value in (then, now))
    return (_shown(both[0]), _shown(both[1])) if both[0] != both[1] else (_shown(then), _shown(now))


def _is_hash(value: str) -> bool:
    return len(value) >= 2 * SHORT and set(value) <= set("0123456789abcdef")


def _shown(text: str) -> str:
    """A manifest may come from somebody else: no character of it does anything to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def write_config(manifest: Manifest, path: Path) -> None:
    """Write the config of the sweep; nothing that is there already is replaced."""
    import yaml

    text = "# The sweep of a report, as its manifest has it.\n" + yaml.safe_dump(dict(manifest.config), sort_keys=False)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} is there already; give another path, or move it") from None
