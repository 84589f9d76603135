"""No name, keep, seed, shard or sample id becomes a path outside the results folder, or a wildcard, or a shell word."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lofi.cell import NAME
from lofi.cli import main
from lofi.config import from_dict
from lofi.data.docs import load_docs
from lofi.data.prepare import prepare
from lofi.data.registry import card_from
from lofi.data.source import Source
from lofi.data.stored import StoredImages
from lofi.errors import UserError

from .test_code import CARD

HOSTILE = [
    *("", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../b", "a\\b", "~", "~root", ".hidden"),
    *("a=b", "model=x/dataset=y", "a\nb", "a\n", "\n", "a\r", "a\t", "a b", " a", "a\x00b", "a\x00", "\x1b[2J"),
    *("é", "ａ", "a\u202eb", "a\u2044b", "a\u2215b", "a\uff0fb", "․․", "a\u00a0b", "a\u200bb", "\ufeffa", "١"),
    *(
        "{model}",
        "{x}",
        "a*",
        "a?",
        "[a]",
        "-rf",
        "--help",
        "a;b",
        "a|b",
        "a&b",
        "$(id)",
        "`id`",
        "$HOME",
        "a'b",
        'a"b',
    ),
    *("a" * 101, "a%2f..", "<script>", "a,b", "a:b", "#a", "!a", "@a"),
]
FINE = ["a", "A1", "llava-1.5-7b", "a_b", "a+b", "a..b", "a" * 100]
TREATMENTS = [
    *("../x", "/etc/passwd", "0.25/../..", "0.2500/../../x", "0.2500\n", "0.2500\x00", "nan", "-1", "1e400", "٠.٢٥"),
]


def config(**changes: object) -> dict[str, object]:
    entries = {
        "models": {"m": {"source": "embedded:digits-llava"}},
        "datasets": {"d": {"card": "digits-pope"}},
        "methods": {"r": {"reducer": "random"}},
        "keeps": [0.25],
    }
    return {**entries, **changes}


def named(kind: str, name: str) -> dict[str, object]:
    """A config in which one thing has that name."""
    (entry,) = config()[kind].values()  # type: ignore[attr-defined]
    return config(**{kind: {name: entry}})


@pytest.mark.parametrize("kind", ["models", "datasets", "methods"])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_refused(kind: str, name: str) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(named(kind, name))
    assert "\n" not in str(caught.value)
    assert not NAME.fullmatch(name) or len(name) > 100


@pytest.mark.parametrize("kind", ["models", "datasets", "methods"])
@pytest.mark.parametrize("name", FINE)
def test_ordinary_names_are_not(kind: str, name: str) -> None:
    for cell in from_dict(named(kind, name)).cells():
        parts = Path(cell.path()).parts
        assert len(parts) == 7
        assert not {"..", ""} & set(parts)


@pytest.mark.parametrize("keep", TREATMENTS, ids=ascii)
def test_hostile_keeps_and_seeds_are_refused(keep: str) -> None:
    for changes in ({"keeps": [keep]}, {"methods": {"r": {"reducer": "random", "seeds": [keep]}}}):
        with pytest.raises(UserError):
            from_dict(config(**changes))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, three levels down, with a sweep."""
    folder = tmp_path / "a" / "b" / "work"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps(config()))
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str) -> int:
    try:
        return main([*arguments, "--config", "sweep.json"])
    except SystemExit as ended:  # argparse
        return int(ended.code or 0)


COMMANDS = {
    "prepare a dataset": ["prepare", "--dataset={}"],
    "prepare a model": ["prepare", "--model={}"],
    "the model": ["reference", "--model={}", "--dataset=d"],
    "the dataset": ["evaluate", "--model=m", "--dataset={}"],
    "the method": ["evaluate", "--model=m", "--dataset=d", "--method={}"],
    "the keep": ["evaluate", "--model=m", "--dataset=d", "--keep={}"],
    "the seed": ["evaluate", "--model=m", "--dataset=d", "--seed={}"],
    "the shard": ["evaluate", "--model=m", "--dataset=d", "--shard={}"],
    "stability": ["stability", "--model=m", "--dataset={}"],
    "rescore": ["rescore", "--dataset={}"],
    "a scorer": ["rescore", "--scorer={}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_options_are_refused_and_leave_nothing(
    command: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for value in (*HOSTILE, *TREATMENTS):
        assert run(*(part.format(value) for part in COMMANDS[command])) == 2, ascii(value)
    assert sorted(tmp_path.rglob("*")) == before
    assert "Traceback" not in capsys.readouterr().err


IDS = ["../../../x", "/etc/passwd", "a\nb", "a\u202eb", "<script>alert(1)</script>", "{model}", "", "a" * 5000]


def test_sample_ids_and_image_hashes_are_values_and_never_paths(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    rows = [{"id": name, "image": "black.png", "question": "?", "answer": "no"} for name in IDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = sorted(tmp_path.rglob("*"))
    card = card_from("planted", {**CARD, "grouped": False})
    prepare(card, tmp_path / "out", prompt_style="plain", source=str(tmp_path / "rows.jsonl"))
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path not in before}
    assert made == {"out", "out/docs.parquet", "out/images.parquet"}
    assert {doc.sample_id for doc in load_docs(tmp_path / "out").rows} == set(IDS)
    with pytest.raises(UserError, match="lacks 1 of 1 images"):
        StoredImages(tmp_path / "out" / "images.parquet").read(["../../../etc/passwd"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../secret", "..", "./../secret"])
def test_a_dataset_of_the_hub_names_no_file_of_this_machine(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    fetched = Source("somebody/looks", "0" * 40, tmp_path / "data", {})
    with pytest.raises(ValueError, match="only name files of its own"):
        fetched.locate(path)
    assert fetched.locate("images/1.png") == tmp_path / "data" / "images" / "1.png"
    own = Source("rows.jsonl", "", tmp_path / "data", {})
    assert own.locate("../secret") == tmp_path / "data" / ".." / "secret"
