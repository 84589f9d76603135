"""The command line as a user meets it: help, exit codes, one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lofi.cli import main
from lofi.commands import shows_images
from lofi.sweep import DatasetSpec

COMMANDS = (
    "plan",
    "prepare",
    "reference",
    "evaluate",
    "stability",
    "rescore",
    "aggregate",
    "report",
    "figures",
    "check",
    "certify",
    "status",
    "recover",
    "reproduce",
    "bench-data",
    "query",
    "train-digits",
)


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    sweep = {
        "models": {"tiny": {"source": str(tiny_model)}},
        "datasets": {"digits-pope": {"source": str(digits / "digits-pope"), "limit": 4}},
        "methods": {"grid_1d": {}, "lofi": {}},
        "keeps": [0.25],
    }
    path.write_text(json.dumps(sweep))
    return path


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = "import sys; from lofi.cli import main; sys.argv = ['lofi', '--help']\ntry: main()\nfinally: "
    code += "print('heavy:', *{'torch', 'numpy', 'yaml', 'duckdb', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in COMMANDS)
    assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: lofi" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--model", "tine", "--dataset", "digits-pope"], "unknown model 'tine': did you mean 'tiny'?"),
        (["evaluate", "--model", "tiny", "--dataset", "digits-pop"], "unknown dataset 'digits-pop': did you mean"),
        (["reference", "--model", "tiny", "--dataset", "digits-pope"], "run `lofi prepare`"),
        (["reference", "--model", "tiny", "--dataset", "digits-pope", "--shard", "3"], "shard 3 is not one of"),
        (["stability", "--model", "tine", "--dataset", "digits-pope"], "unknown model 'tine': did you mean 'tiny'?"),
        (["rescore"], "4 of 4 sample files are missing"),
        (["rescore", "--scorer", "pop"], "unknown scorer 'pop': did you mean 'pope'?"),
        (["check", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["query", "SELECT 1"], "results/tables"),
        (["prepare", "--model", "none"], "unknown model 'none'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    config: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lofi {arguments[0]}: ")
    assert error.count("\n") == 1
    assert message in error


def test_every_stage_runs_by_hand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["--model", "tiny", "--dataset", "digits-pope"]
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "4 cells of 1 models" in said
    assert "digits-pope: card digits-pope, prompts lmms_eval, scorer pope version 1, scoring mode logits" in said
    assert "tiny: template of the checkpoint, images original" in said
    assert main(["status"]) == 0
    assert "not prepared; 4 cells wait" in capsys.readouterr().out
    assert main(["prepare", "--dataset", "digits-pope"]) == 0
    assert main(["prepare", "--model", "tiny"]) == 0
    assert main(["reference", *job]) == 0
    assert "computed 2 cells, 0 from cache" in capsys.readouterr().err
    assert main(["evaluate", *job, "--method", "lofi"]) == 0
    assert main(["status"]) == 0
    status = capsys.readouterr().out
    assert "grid_1d keep 0.2500 seed 0: waiting" in status
    assert "3 of 4 cells done" in status
    assert main(["aggregate"]) == 2
    assert "grid_1d" in capsys.readouterr().err
    assert main(["evaluate", *job]) == 0
    assert "computed 1 cells, 1 from cache" in capsys.readouterr().err
    assert main(["aggregate"]) == 2
    assert "run `lofi stability`" in capsys.readouterr().err
    assert main(["stability", *job]) == 0
    assert "wrote 24 rows" in capsys.readouterr().err  # 2 cells, 3 variants, 4 images
    assert main(["aggregate"]) == 0
    assert main(["report", "--date", "2026-01-01"]) == 0
    assert "<title>" in Path("reports/index.html").read_text()
    capsys.readouterr()
    assert main(["query", "SELECT method, n FROM cells ORDER BY method", "--format", "csv"]) == 0
    assert capsys.readouterr().out.split() == ["method,n", "floor,16", "full,16", "grid_1d,16", "lofi,16"]


def test_self_agreement_may_be_switched_off(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), "stability_images": 0}))
    assert main(["stability", "--model", "tiny", "--dataset", "digits-pope"]) == 2
    assert "stability_images is 0" in capsys.readouterr().err


def test_an_unreachable_hub_model_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config.read_text().replace(json.loads(config.read_text())["models"]["tiny"]["source"], "nobody/no-model")
    config.write_text(text)
    assert main(["prepare", "--model", "tiny"]) == 2
    assert "model 'nobody/no-model' cannot be downloaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "setting", "shown"),
    [
        ("digits-pope", "auto", True),  # lofi draws it
        ("digits-pope", "hidden", False),
        ("gqa", "auto", False),
        ("gqa", "shown", True),
    ],
)
def test_the_report_shows_images_that_nobody_forbids_to_copy(card: str, setting: str, shown: bool) -> None:
    assert shows_images(DatasetSpec(card, report_images=setting)) is shown
