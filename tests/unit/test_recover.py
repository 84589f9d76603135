"""Recovery after a killed Snakemake: what its logs, squeue and command lines are read as."""

import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lofi.cli import main
from lofi.errors import UserError
from lofi.recover import queue
from lofi.recover.logs import counts_of, outputs_of, read_run, runs_of, unnoted
from lofi.recover.processes import is_job, is_snakemake
from lofi.recover.queue import Job, cancel, queued, read_queue

HEADER = """Assuming unrestricted shared filesystem usage.

SNAKEMAKE
=========
  Date: 2026-11-21 21:12:37
  Workflow ID: ecced586-40f5-40e5-8080-a68aed0f5223
  Host: {host}
  User: {user}
  Snakemake version: 9.27.1
  Command: /opt/bin/snakemake --profile slurm --configfile my.yaml
  Snakefile: /opt/lofi/Snakefile
  Run directory: /opt/lofi
  Working directory: /scratch/sweep
  Config file(s): [PosixPath('my.yaml')]

Building DAG of jobs...
"""
STARTED = """SLURM run ID: 6b1c54fd-1d0a-4f0e-8a5a-5b9e4a53f7f1
Using shell: /usr/bin/bash
Job stats:
job          count
---------  -------
evaluate         2
aggregate        1
all              1
total            4

[Sat Nov 21 21:12:41 2026]
rule evaluate:
    input: results/a.parquet, results/b.parquet
    output: results/c.parquet, results/d.parquet
    jobid: 8
[Sat Nov 21 21:12:42 2026]
rule evaluate:
    output: results/e.parquet
    jobid: 9
"""
REFUSED = "LockException:\nError: Directory cannot be locked.\n"


def log(host: str = "login1", user: str = "ann", rest: str = STARTED) -> str:
    return HEADER.format(host=host, user=user) + rest


def test_a_log_says_who_ran_what_and_where() -> None:
    run = read_run(log())
    assert run
    assert (run.host, run.user, run.date) == ("login1", "ann", "2026-11-21 21:12:37")
    assert (run.arguments, run.profile) == ("--profile slurm --configfile my.yaml", "slurm")
    assert (run.snakefile, run.started_in) == ("/opt/lofi/Snakefile", "/opt/lofi")
    assert run.slurm_name == "6b1c54fd-1d0a-4f0e-8a5a-5b9e4a53f7f1"
    assert run.outputs == {"results/c.parquet", "results/d.parquet", "results/e.parquet"}


def test_a_run_without_slurm_has_no_job_name() -> None:
    run = read_run(log(rest=STARTED.partition("\n")[2]))
    assert run
    assert run.slurm_name is None


@pytest.mark.parametrize("text", [log(rest=REFUSED), "Unlocked working directory.", ""])
def test_what_never_held_the_lock_is_no_run(text: str) -> None:
    assert read_run(text) is None


def test_the_newest_log_is_the_last_run(tmp_path: Path) -> None:
    folder = tmp_path / ".snakemake" / "log"
    folder.mkdir(parents=True)
    for day, text in (("02", log("b")), ("01", log("a")), ("03", log("c", rest=REFUSED))):
        (folder / f"2026-11-{day}T211237.678765.snakemake.log").write_text(text)
    assert [run.host for run in runs_of(tmp_path)] == ["a", "b"]


def test_a_dry_run_counts_jobs_and_names_their_files() -> None:
    assert counts_of(STARTED) == {"evaluate": 2, "aggregate": 1}
    assert counts_of("Nothing to be done (all requested files are present and up to date).") == {}
    assert outputs_of("    input: a\n    output: b, c\nlocalrule x:\n    output: d") == {"b", "c", "d"}


def test_a_file_without_a_record_has_a_date_and_no_log() -> None:
    head = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan"
    rows = ["a\tSat Nov 21\tevaluate\t-\tok\tno update", "b\tSat Nov 21\tevaluate\tb.log\tok\tno update"]
    rows += ["c\t-\tevaluate\t-\tmissing\tupdate pending", "Building DAG of jobs..."]
    assert unnoted("\n".join([head, *rows])) == {"a"}


def test_squeue_is_read_line_by_line() -> None:
    said = "12|RUNNING|rule_evaluate_wildcards_m_d_0000\n13_[1-4]|PENDING|rule_report\n\nslurm_load_jobs error"
    assert read_queue(said) == [
        Job("SLURM job 12", "running", "evaluate_wildcards_m_d_0000"),
        Job("SLURM job 13_[1-4]", "pending", "report"),
    ]
    assert str(read_queue(said)[1]) == "SLURM job 13_[1-4] (pending) report"


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_squeue_that_is_missing_or_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queued([]) == [], "nobody is asked where no run had SLURM jobs"
    with pytest.raises(UserError, match=r"squeue is not on PATH.*where sbatch works"):
        queued(["a"])
    program(tmp_path, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match=r"exit code 1 \(Unable to contact slurm controller\); the jobs go on"):
        queued(["a"])
    program(tmp_path, "squeue", "exit 3")
    with pytest.raises(UserError, match=r"exit code 3 \(it gave no reason\)"):
        queued(["a"])
    with pytest.raises(UserError, match="scancel is not on PATH"):
        cancel(["a"])
    program(tmp_path, "squeue", "read forever < /dev/zero")
    monkeypatch.setattr(queue, "PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"did not answer within 0\.2 s"):
        queued(["a"])


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("/opt/bin/python3 /opt/bin/snakemake --profile slurm", True),
        ("/opt/bin/python3 -m snakemake -c2", True),
        ("/opt/bin/python3 -m snakemake --snakefile Snakefile --mode remote", False),
        ("/opt/bin/snakemake -c2", True),
        ("grep -r snakemake .", False),
        ("vim -R workflow/rules/a.smk Snakefile", False),
        ("less .snakemake/log/2026.snakemake.log", False),
    ],
)
def test_which_processes_rule_a_folder(line: str, rules: bool) -> None:
    assert is_snakemake(line.split()) is rules


@pytest.mark.parametrize(
    ("line", "job"),
    [
        ("/opt/bin/python3 /opt/bin/lofi evaluate --config results/sweep.json --model m", True),
        ("lofi report --config results/sweep.json --output reports/index.html", True),
        ("/opt/bin/python3 /opt/bin/lofi evaluate --model m", False),
        ("lofi status --config results/sweep.json", False),
    ],
)
def test_which_processes_are_jobs_of_the_workflow(line: str, job: bool) -> None:
    assert is_job(line.split()) is job


def left_behind(folder: Path, *, host: str, user: str) -> None:
    """The log and the lock of a killed run."""
    for name in ("log", "locks"):
        (folder / ".snakemake" / name).mkdir(parents=True)
    (folder / ".snakemake/log/2026-11-21T211237.678765.snakemake.log").write_text(log(host, user, ""))
    (folder / ".snakemake/locks/0.input.lock").write_text("a\n")


@pytest.mark.parametrize(
    ("host", "user", "message"),
    [
        ("elsewhere", getpass.getuser(), "was started on elsewhere, whose processes cannot be seen from"),
        (platform.node(), "somebody", "is somebody's, whose processes cannot be seen; ask somebody to recover it"),
    ],
)
def test_a_run_that_might_be_alive_elsewhere_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, user: str, message: str
) -> None:
    left_behind(tmp_path, host=host, user=user)
    assert main(["recover", "--directory", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / ".snakemake/locks/0.input.lock").exists()


def test_a_folder_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "--directory", str(tmp_path)]) == 2
    assert "no run was ever started in" in capsys.readouterr().err


def test_a_living_snakemake_is_not_disturbed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_behind(tmp_path, host=platform.node(), user=getpass.getuser())
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    program = tmp_path / "snakemake"
    program.write_text(code)
    with subprocess.Popen(
        [sys.executable, str(program)], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as living:
        assert living.stdout
        assert living.stdin
        living.stdout.readline()
        assert main(["recover", "--directory", str(tmp_path)]) == 2
        assert f"Snakemake is alive in {tmp_path} (process {living.pid}" in capsys.readouterr().err
        living.stdin.close()
