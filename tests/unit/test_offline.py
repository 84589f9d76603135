"""A gated model comes once, with a token that nothing keeps; all later stages run without a network."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .hub import COMMIT, Hub, serving

TOKEN, WRONG = "hf_marker0123456789abcdef", "hf_wrong9876543210fedcba"
REPO = "somebody/tiny"
# What a process of a machine without a network could do with a socket.
NO_NETWORK = """
import socket

def refuse(*_, **__):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""

Lofi = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, digits: Path) -> Path:
    """Where a user works: a config whose model is the hub's."""
    folder = tmp_path_factory.mktemp("offline")
    sweep = {
        "models": {"tiny": {"source": REPO, "revision": COMMIT}},
        "datasets": {"digits-pope": {"source": str(digits / "digits-pope"), "limit": 2}},
        "methods": {"grid_1d": {}, "fastervlm": {}},
        "keeps": [0.25],
        "stability_images": 2,
    }
    (folder / "config.yaml").write_text(json.dumps(sweep))
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(NO_NETWORK)
    return folder


def lofi_in(folder: Path) -> Lofi:
    """Commands of lofi, one after the other in one process: most of each would be imports."""

    def lofi(*commands: str, token: str = TOKEN, hub: Hub | None = None) -> "subprocess.CompletedProcess[str]":
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE_"))}
        env |= {
            "HF_HOME": str(folder / "hf"),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_VERBOSITY": "debug",
        }
        env |= {"PYTHONPATH": str(folder / "guard")} if hub is None else {"HF_ENDPOINT": hub.url}
        code = "import sys; from lofi.cli import main; sys.exit(max(main(each.split()) for each in sys.argv[1:]))"
        command = [sys.executable, "-c", code, *commands]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    return lofi


@pytest.fixture(scope="module")
def prepared(folder: Path, tiny_model: Path) -> list[str]:
    """The model downloaded and the dataset prepared; all that was said."""
    lofi, said = lofi_in(folder), []
    with serving(tiny_model, REPO, TOKEN) as hub:
        for commands, token, messages in (
            (("prepare --model tiny",), WRONG, ("it is gated; accept its licence on the hub, and set HF_TOKEN",)),
            (
                ("prepare --model tiny", "prepare --dataset digits-pope"),
                TOKEN,
                (f"tiny is at {folder}/hf/hub/models--somebody--tiny", "questions"),
            ),
        ):
            done = lofi(*commands, token=token, hub=hub)
            said.append(done.stdout + done.stderr)
            assert all(message in said[-1] for message in messages)
            assert done.returncode == (2 if token == WRONG else 0), said[-1]
        assert any(allowed for _, allowed in hub.asked)
    return said


def test_a_gated_model_is_one_line_without_the_token_and_is_there_with_it(folder: Path, prepared: list[str]) -> None:
    refused = [line for line in prepared[0].splitlines() if line.startswith("lofi prepare:")]
    assert len(refused) == 1
    snapshot = folder / "hf/hub/models--somebody--tiny/snapshots" / COMMIT
    assert (snapshot / "model.safetensors").is_file()


def test_every_stage_after_prepare_runs_without_a_network_and_nothing_keeps_the_token(
    folder: Path, prepared: list[str]
) -> None:
    lofi, said = lofi_in(folder), list(prepared)
    jobs = [f"{stage} --model tiny --dataset digits-pope" for stage in ("reference", "evaluate", "stability")]
    done = lofi("check", *jobs, "status", "aggregate", "report")
    assert done.returncode == 0, done.stderr
    said.append(done.stdout + done.stderr)
    assert (folder / "reports" / "index.html").is_file()
    for token in (TOKEN, WRONG):
        assert [text for text in said if token in text] == []
        kept = [path for path in folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
        assert kept == []


def test_the_guard_would_have_seen_a_connection(folder: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    env = {**os.environ, "PYTHONPATH": str(folder / "guard")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "the network was asked for" in done.stderr


def test_a_model_that_cannot_come_is_one_line(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "config.yaml", tmp_path)
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text("")
    lofi = lofi_in(tmp_path)
    with serving(tiny_model, "somebody/else", TOKEN) as hub:
        done = lofi("prepare --model tiny", hub=hub)
    assert done.returncode == 2
    assert (
        "'somebody/tiny' cannot be downloaded: the hub has none of this name, or hides it; correct the name"
        in done.stderr
    )
    done = lofi("prepare --model tiny", hub=hub)  # which no longer runs
    assert done.returncode == 2
    assert "give a local folder, or run this where there is a network" in done.stderr
    done = lofi("reference --model tiny --dataset digits-pope")
    assert done.returncode == 2
    bare = shutil.copytree(tiny_model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with serving(bare, REPO, TOKEN) as hub:
        done = lofi("prepare --model tiny", hub=hub)
    assert "has no model.safetensors; lofi loads weights from safetensors and nothing else" in done.stderr
