"""A hub dataset comes over real HTTP: once, pinned, only the files that are read, and on from where it was cut."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE as CHUNK

from lofi.data.docs import load_docs
from lofi.store import read_metadata
from tests.datasets.schemas import IMAGE, TEXT

from .hub import COMMIT, Hub, serving
from .test_prepare import encoded_noise

TOKEN, WRONG = "hf_dataset0123456789abcdef", "hf_wrong9876543210fedcba"
REPO = "somebody/looks"
QUESTIONS = datasets.Features(dict.fromkeys(("id", "imageId", "question", "answer"), TEXT))
PICTURES = datasets.Features({"id": TEXT, "image": IMAGE, "unread": datasets.Value("binary")})
SHARDS = 3
README = """---
configs:
- config_name: other
  data_files:
  - split: testdev
    path: other/*
- config_name: questions
  data_files:
  - split: train
    path: questions/train-*
  - split: testdev
    path: questions/testdev-*
- config_name: pictures
  data_files:
  - split: testdev
    path: pictures/testdev-*
---
"""
CARD: dict[str, Any] = {
    "title": "Looks",
    "source": "old/looks",
    "aliases": [REPO],
    "revision": COMMIT,
    "config": "questions",
    "split": "testdev",
    "columns": ["id", "imageId", "question", "answer"],
    "image": [],
    "join": {"config": "pictures", "split": "testdev", "on": "imageId", "key": "id", "image": "image"},
    "question": "question",
    "target": "answer",
    "sample_id": "{id}",
    "task": "open",
    "scorer": "gqa",
    "max_new_tokens": 16,
    "prompts": {"plain": "{question}"},
}
# Each argument is one `prepare`: the card, the source that overrides its own, the token.
RUN = """
import os, sys
from pathlib import Path
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
from lofi.errors import UserError
for argument in sys.argv[1:]:
    card, source, os.environ["HF_TOKEN"] = argument.split()
    try:
        prepare(get_card(card), Path("out"), prompt_style="plain", source=None if source == "-" else source)
    except UserError as error:
        print(f"refused: {error}")
"""
DEFAULT = f"looks.yaml - {TOKEN}"

Prepare = Callable[..., "subprocess.Popen[str]"]


def write(path: Path, features: datasets.Features, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two tables that are read, and a good deal more."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "README.md").write_text(README)
    asked = [{"id": f"q{i}", "imageId": f"i{i % 6}", "question": f"What is {i}?", "answer": "red"} for i in range(12)]
    for name in ("train", "testdev"):
        write(folder / "questions" / f"{name}-00000-of-00001.parquet", QUESTIONS, asked)
    for shard in range(SHARDS):
        rows = [
            {"id": f"i{i}", "image": {"bytes": encoded_noise(i), "path": None}, "unread": b""}
            for i in (2 * shard, 2 * shard + 1)
        ]
        write(folder / "pictures" / f"testdev-0000{shard}-of-0000{SHARDS}.parquet", PICTURES, rows)
    write(folder / "other" / "testdev.parquet", QUESTIONS, asked)
    (folder / "videos").mkdir()
    (folder / "videos" / "clip [1].mp4").write_bytes(bytes(100_000))
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serving(repository, REPO, TOKEN, "dataset") as hub:
        yield hub


@pytest.fixture
def start(tmp_path: Path, hub: Hub) -> Prepare:
    """Start to prepare in a process of its own, in a folder where a user works."""
    (tmp_path / "looks.yaml").write_text(yaml.safe_dump(CARD))
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(CARD | {"split": "dev"}))

    def start(*arguments: str) -> "subprocess.Popen[str]":
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE_"))}
        env |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_VERBOSITY": "debug"}
        command = [sys.executable, "-c", RUN, *(arguments or (DEFAULT,))]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=env, **pipes)

    return start


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """What was refused."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert TOKEN not in said
    assert WRONG not in said
    return [line for line in said.splitlines() if line.startswith("refused: ")]


def test_only_what_is_read_comes_and_it_comes_once(hub: Hub, start: Prepare, tmp_path: Path) -> None:
    assert finish(start()) == []
    files = {path: (start, size) for path, start, size in hub.sent}
    wanted = {path for path in hub.folder.rglob("testdev-*")} | {hub.folder / "README.md"}
    assert files == {str(path.relative_to(hub.folder)): (0, path.stat().st_size) for path in wanted}
    docs = load_docs(tmp_path / "out")
    assert [doc.sample_id for doc in docs.rows] == [f"q{i + j}" for i in range(6) for j in (0, 6)]
    assert all(doc.image_error is None for doc in docs.rows)
    stamp = read_metadata(tmp_path / "out" / "docs.parquet")
    assert (stamp["source"], stamp["revision"]) == ("old/looks", COMMIT)
    assert any("/old/looks/" in path for path, _ in hub.asked), "the card's own name is asked for first"

    hub.sent.clear()
    assert finish(start(DEFAULT, f"looks.yaml {REPO}@main {TOKEN}")) == []
    assert hub.sent == [], "what is here is not downloaded again"
    assert load_docs(tmp_path / "out").revision == docs.revision
    stamp = read_metadata(tmp_path / "out" / "docs.parquet")
    assert (stamp["source"], stamp["revision"]) == (f"{REPO}@main", COMMIT), "the commit behind a branch is recorded"
    for path in [*tmp_path.rglob("*")]:
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_a_broken_connection_goes_on_where_it_broke(hub: Hub, start: Prepare, tmp_path: Path, repository: Path) -> None:
    hub.folder = shutil.copytree(repository, tmp_path / "large")
    name = f"pictures/testdev-00001-of-0000{SHARDS}.parquet"
    rows = pq.read_table(hub.folder / name).to_pylist()
    write(hub.folder / name, PICTURES, [{**row, "unread": random.Random(row["id"]).randbytes(CHUNK)} for row in rows])
    size = (hub.folder / name).stat().st_size
    hub.drops[name] = CHUNK + CHUNK // 2
    assert finish(start()) == []
    # the client writes whole chunks
    assert [each for each in hub.sent if each[0] == name] == [
        (name, 0, CHUNK + CHUNK // 2),
        (name, CHUNK, size - CHUNK),
    ]
    assert len(load_docs(tmp_path / "out").rows) == 12


def test_a_killed_download_keeps_its_finished_files(hub: Hub, start: Prepare, tmp_path: Path) -> None:
    hub.stuck = "questions/testdev-00000-of-00001.parquet"
    process = start()
    deadline = time.monotonic() + 60
    pictures = {f"pictures/testdev-0000{shard}-of-0000{SHARDS}.parquet" for shard in range(SHARDS)}
    while not pictures <= {path for path, _, _ in hub.sent} and time.monotonic() < deadline:
        time.sleep(0.05)
    blobs = tmp_path / "hf" / "hub" / "datasets--somebody--looks" / "blobs"
    while len([path for path in blobs.iterdir() if not path.suffix]) < SHARDS + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out").exists()
    hub.released.set()
    stuck, hub.stuck = hub.stuck, ""
    hub.sent.clear()
    assert finish(start()) == []
    assert {path for path, _, _ in hub.sent} == {stuck}
    assert hub.bytes_of(stuck) == (hub.folder / stuck).stat().st_size
    assert len(load_docs(tmp_path / "out").rows) == 12


def test_what_the_hub_refuses_is_one_line_each(start: Prepare, hub: Hub) -> None:
    gated, unknown, revision, split = finish(
        start(
            f"looks.yaml - {WRONG}",
            f"looks.yaml no/such {TOKEN}",
            f"looks.yaml {REPO}@v9 {TOKEN}",
            f"split.yaml {REPO} {TOKEN}",
        )
    )
    assert "'old/looks' cannot be downloaded: the hub has none of this name, or hides it; correct the name" in gated
    assert f"'{REPO}' cannot be downloaded: it is gated; accept its licence on the hub, and set HF_TOKEN" in gated
    assert "dataset looks: 'no/such' cannot be downloaded: the hub has none of this name" in unknown
    assert f"'{REPO}' cannot be downloaded: it has no revision 'v9'; give a commit, branch or tag of it" in revision
    assert f"cannot read dataset split from {REPO}: there is no split 'dev', only train, testdev" in split
    assert {path for path, _, _ in hub.sent} <= {"README.md"}
