"""What the numbers of a sweep come from, as it is here: the code, the packages, the files, and what a run left."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import lofi
from lofi import NUMERICS_VERSION, __version__
from lofi.data.docs import DOCS_FILE
from lofi.errors import UserError
from lofi.identity import planned_docs, scorer_of
from lofi.methods.registry import get_reducer
from lofi.models.facts import fingerprint
from lofi.provenance import machine, versions
from lofi.reproduce.manifest import Facts
from lofi.scoring.registry import get_scorer
from lofi.store import read_metadata
from lofi.sweep import Sweep

CODE = Path(lofi.__file__).parent
LOCKS = CODE.parent / "envs"
ABSENT = "not on this machine"
REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def facts_here(sweep: Sweep) -> Facts:
    """What a run of the sweep would come from if it were started here and now."""
    models = {model.name: _revision(model.source, model.revision) for model in sweep.models}
    making = {"numerics": str(NUMERICS_VERSION), **versions(), **machine()}
    return {**_of_code(sweep), "models": models, "samples made with": making}


def facts_of_run(sweep: Sweep, results: Path) -> Facts:
    """What a finished run has come from, as its tables say, and the hashes of these."""
    tables = results / "tables"
    stamps = _stamps(tables / "runs.parquet")
    models, datasets = (
        {spec.name: _every(_constants(stamps, kind, spec.name)) for spec in specs}
        for kind, specs in (("model", sweep.models), ("dataset", sweep.datasets))
    )
    return {
        **_of_code(sweep),
        "models": models,
        "datasets": datasets,
        "dataset sources": {name: _source(results / "data" / name / DOCS_FILE) for name in datasets},
        "samples made with": _making(stamps),
        "samples made": {name: _every(str(each.get(name)) for each in stamps) for name in ("commit", "device")},
        "tables": {file.stem: _sha256(file) for file in sorted(tables.glob("[!.]*.parquet"))},
    }


def _of_code(sweep: Sweep) -> dict[str, Mapping[str, str]]:
    """What is the same before and after a run: lofi itself, and the packages beside it."""
    reducers = sorted({method.reducer for method in sweep.methods})
    scorers = {dataset.name: scorer_of(dataset) for dataset in sweep.datasets}
    return {
        "lofi": {"version": __version__, "code": _code(), "numerics": str(NUMERICS_VERSION)},
        "packages": _packages(),
        "locks": {file.name: _sha256(file) for file in sorted(LOCKS.glob("*.lock"))},
        "reducers": {name: f"version {get_reducer(name).version}" for name in reducers},
        "scorers": {name: f"{scorer} version {get_scorer(scorer).version}" for name, scorer in scorers.items()},
        "cards": {dataset.name: planned_docs(dataset) for dataset in sweep.datasets},
    }


@cache
def _code() -> str:
    """One hash of the files of lofi, without the embedded models, which have revisions."""
    files = (path for path in CODE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return _sha256(*sorted(path for path in files if path.relative_to(CODE).parts[0] != "assets"))


def _packages() -> dict[str, str]:
    """The versions of everything that lofi needs, and of what that needs in turn."""
    found: dict[str, str] = {}
    waiting = ["lofi"]
    while waiting:
        try:
            package = distribution(waiting.pop())
        except PackageNotFoundError:  # needed on other systems, or lofi itself, run without being installed
            continue
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        if name in found:
            continue
        found[name] = package.version
        needed = [each for each in package.requires or () if "extra ==" not in each]
        waiting += [match[0] for each in needed if (match := REQUIREMENT.match(each))]
    found.pop("lofi", None)  # whose version says less than its code
    return {"python": versions()["python"], **dict(sorted(found.items()))}


def _revision(source: str, revision: str | None) -> str:
    try:
        return fingerprint(source, revision)
    except UserError:
        return ABSENT


def _source(docs: Path) -> str:
    """The revision that a dataset was prepared from. The folder of data may be gone: the tables do not need it."""
    return str(read_metadata(docs).get("revision")) if docs.is_file() else ABSENT


def _stamps(runs: Path) -> list[dict[str, Any]]:
    """What every sample file says of its making."""
    from lofi.tables import Tables

    with Tables(runs.parent) as tables:
        found = [row["provenance"] for row in tables.rows("SELECT DISTINCT provenance FROM runs ORDER BY provenance")]
    return [json.loads(text) for text in found if text]


def _constants(stamps: Iterable[Mapping[str, Any]], kind: str, name: str) -> Iterator[str]:
    """The revisions of one model or dataset, as the files of its cells have them."""
    for stamp in stamps:
        constants = stamp.get("constants") or {}
        if constants.get(kind) == name:
            yield str(constants.get(f"{kind}_revision"))


def _making(stamps: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Versions and machines; where files differ, every value."""
    values: dict[str, set[str]] = {}
    for stamp in stamps:
        said = {"numerics": stamp.get("numerics"), **(stamp.get("versions") or {}), **(stamp.get("machine") or {})}
        for name, value in said.items():
            values.setdefault(name, set()).add(str(value))
    return {name: _every(found) for name, found in values.items()}


def _every(values: Iterable[str]) -> str:
    return "; ".join(sorted(set(values)))


def _sha256(*files: Path) -> str:
    """One hash of the contents of files; of several, with their names."""
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            digest.update(f"{file.relative_to(CODE).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
