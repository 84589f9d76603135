"""Tokens and passwords of whoever runs a sweep are in nothing that it writes or says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from lofi.cli import main
from lofi.config import load
from lofi.data.registry import get_card
from lofi.errors import UserError
from lofi.strict_yaml import read_overrides
from tests.conftest import REPOSITORY
from tests.unit.hub import serving

from .test_code import CARD

SECRET = "s3cr3t-4711-planted"
HUB_TOKEN = "hf_PlantedPlantedPlantedPlanted0123"
ELSEWHERE = {  # all that somebody may have in the environment of a job
    "HUGGING_FACE_HUB_TOKEN": "hf_OtherOtherOtherOtherOtherOther99",
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}-aws",
    "AWS_SESSION_TOKEN": f"{SECRET}-session",
    "SLURM_JWT": f"{SECRET}-jwt",
    "GITHUB_TOKEN": f"{SECRET}-github",
    "WANDB_API_KEY": f"{SECRET}-wandb",
    "https_proxy": f"http://somebody:{SECRET}@127.0.0.1:9",
}
WITH_SECRETS = {
    "a password": f"https://somebody:{SECRET}@example.invalid/model",
    "a user that is a token": f"https://{SECRET}@example.invalid/model",
    "another scheme": f"S3+HTTPS://somebody:{SECRET}@example.invalid",
    "a token of the hub": f"somebody/model?token={HUB_TOKEN}",
    "a token alone": HUB_TOKEN,
}
WITHOUT = ["somebody/looks@main", "hf://datasets/somebody/looks@main/data", "hf_small/model", "a@b.example", "C://x"]


def config(**model: object) -> dict[str, Any]:
    return {
        "models": {"m": {"source": "embedded:digits-llava", **model}},
        "datasets": {"digits-pope": {}},
        "methods": {"random": {}},
        "keeps": [0.25],
    }


@pytest.mark.parametrize("text", WITH_SECRETS.values(), ids=WITH_SECRETS)
def test_a_secret_in_a_config_a_card_or_a_command_is_refused_and_not_repeated(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    files = {
        "source.yaml": yaml.safe_dump(config(source=text)),
        "source.json": json.dumps(config(source=text)),
        "tower.yaml": yaml.safe_dump(config(text_tower=text)),
        "revision.yaml": yaml.safe_dump(config(revision=text)),
        "key.yaml": yaml.safe_dump(config(**{text: 1})),
        "comment.yaml": yaml.safe_dump(config()) + f"# {text}\n",
        "broken.yaml": f"models: [{text}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError) as caught:
            load(tmp_path / name)
        said.append(str(caught.value))
        assert f"{name}: line " in said[-1]
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**CARD, "source": text}))
    for read in (lambda: get_card(str(tmp_path / "card.yaml")), lambda: read_overrides([f"models={text}"])):
        with pytest.raises(UserError) as caught:
            read()
        said.append(str(caught.value))
    for command in (["check", "--config"], ["data", "check", "x", "--source"], ["evaluate", "--model"], ["query"], []):
        assert main([*command, text]) == 2
    said.append(capsys.readouterr().err)
    assert all("would be stored with every result" in each for each in said)
    assert not any(SECRET in each or HUB_TOKEN in each for each in said)


@pytest.mark.parametrize("text", WITHOUT)
def test_what_is_no_secret_is_let_pass(text: str) -> None:
    assert read_overrides([f"source={text}"])


def test_compute_jobs_have_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    for name in tokens:
        monkeypatch.setenv(name, HUB_TOKEN)
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "1")  # so that none is left behind
    assert main(["evaluate", "--model", "m", "--dataset", "d", "--config", "/no/such.yaml"]) == 2
    assert not set(tokens) & os.environ.keys()


def write_dataset(folder: Path, private: Path) -> None:
    """A repository of the hub whose texts look like markup and like paths, and whose last row names a private file."""
    folder.mkdir()
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(folder / "black.png")
    content = {"bytes": (folder / "black.png").read_bytes(), "path": None}
    (folder / "black.png").unlink()
    nasty = "<script>alert(1)</script>"
    rows = [
        {"id": f"{nasty}/../../{n}", "image": content, "question": f"{nasty} {n}?", "answer": f"{nasty} no"}
        for n in range(4)
    ]
    rows.append({**rows[0], "id": "thief", "image": {"bytes": None, "path": str(private)}})
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: test-*\n---\n"
    (folder / "README.md").write_text(card)


def everything(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder, byte by byte, and what is compressed in plain, too."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    contents = {name: path.read_bytes() for name, path in found.items()}
    for name, path in found.items():
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            contents[name] += repr((table.schema.metadata, table.to_pylist())).encode()
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as con:
                names = [row[0] for row in con.execute("SHOW TABLES").fetchall()]
                contents[name] += repr([con.execute(f"FROM {each}").fetchall() for each in names]).encode()
    return contents


@pytest.mark.slow
def test_a_sweep_from_a_gated_hub_writes_no_secret_anywhere(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "private").write_text(f"{SECRET}-file")
    write_dataset(tmp_path / "looks", tmp_path / "private")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "looks.yaml").write_text(yaml.safe_dump({**CARD, "source": "somebody/looks"}))
    sweep = config(source="somebody/tiny", batch_images=4)
    sweep |= {"datasets": {"looks": {"card": str(folder / "looks.yaml"), "prompt_style": "plain"}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**sweep, "stability_images": 0}))
    said = ""

    def run(endpoint: str, *command: str) -> None:
        nonlocal said
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), mine["PATH"]])
        hub = {"HF_TOKEN": HUB_TOKEN, "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": endpoint}
        environment = {**mine, **ELSEWHERE, **hub, "HF_HUB_VERBOSITY": "debug", "PATH": path}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        said += done.stdout + done.stderr
        assert done.returncode == 0, said

    snakemake = ["-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--cores", "1", "--show-failed-logs"]
    with serving(tiny_model, "somebody/tiny", HUB_TOKEN) as models:
        run(models.url, "lofi", "prepare", "--config", "sweep.yaml", "--model", "m")
        assert any(came for _, came in models.asked), "the token is there, and is used"
    with serving(tmp_path / "looks", "somebody/looks", HUB_TOKEN, "dataset") as data:
        run(data.url, sys.executable, *snakemake, "--configfile", "sweep.yaml", "--directory", str(folder))
    run("http://127.0.0.1:9", "lofi", "query", "SELECT * FROM samples JOIN runs USING (model, dataset)")

    contents = everything(folder) | {"what was said": said.encode()}
    kinds = {"reports/index.html", "results/audit.duckdb", "results/tables/cells.parquet", "results/sweep.json"}
    assert kinds < contents.keys()
    assert any(name.startswith(".snakemake/metadata/") for name in contents)
    assert any(name.startswith("logs/evaluate/") for name in contents)
    planted = [HUB_TOKEN, SECRET, *ELSEWHERE.values()]
    assert [(name, each) for name, content in contents.items() for each in planted if each.encode() in content] == []
    assert b"a dataset of the hub may only name files of its own" in contents["results/data/looks/docs.parquet"]
    page = contents["reports/index.html"].decode()
    assert "<script>alert" not in page
    expected = {"sweep.yaml", "looks.yaml", "hf", "results", "reports", "logs", ".snakemake"}
    assert {path.name for path in folder.iterdir()} <= expected
    assert {path.name for path in tmp_path.iterdir()} == {"looks", "private", "work"}, "no sample id has become a path"
