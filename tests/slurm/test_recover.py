"""`lofi recover` after Snakemake was killed with its jobs in SLURM's queue."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.conftest import OnCluster, smoke
from tests.workflow.conftest import Workflow, computed, samples
from tests.workflow.test_recover import HELD, kill_while_evaluating, recovered, recovering, until

pytestmark = pytest.mark.slow  # a minute or more each

FAST = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "6", "--latency-wait", "10")


@dataclass
class Held(OnCluster):
    """A workflow whose `lofi evaluate` waits until it is told to go on."""

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        return {**environment, "PATH": os.pathsep.join([str(self.folder / "bin"), environment["PATH"]])}


@pytest.fixture(scope="module")
def begun(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A sweep of one dataset with its reference done, on this machine."""
    sweep = smoke(tiny_model)
    dataset, settings = next(iter(sweep["datasets"].items()))
    workflow = Workflow(tmp_path_factory.mktemp("begun"), {**sweep, "datasets": {dataset: settings}})
    workflow.run("--until", "reference")
    return workflow


@pytest.fixture(scope="module")
def undisturbed(begun: Workflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """The samples of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("copies") / "undisturbed"
    shutil.copytree(begun.folder, folder)
    Workflow(folder, dict(begun.sweep)).run("--until", "evaluate")
    return samples(folder)


@pytest.fixture
def killed(cluster, begun: Workflow, tmp_path: Path) -> Held:
    """The same sweep on SLURM, its Snakemake killed while a node evaluates."""
    shutil.copytree(begun.folder, tmp_path / "copy")
    workflow = Held(tmp_path / "copy", dict(begun.sweep), cluster=cluster)
    lofi = workflow.folder / "bin" / "lofi"
    lofi.parent.mkdir()
    program = str(Path(sys.executable).parent / "lofi")
    lofi.write_text(HELD.format(python=sys.executable, program=program))
    lofi.chmod(0o755)
    kill_while_evaluating(workflow, *FAST, "--until", "evaluate")
    return workflow


def test_what_the_jobs_of_a_killed_snakemake_finish_counts(killed, undisturbed):
    with recovering(killed) as said:
        until(lambda: any("waiting for 1 job: SLURM job" in line for line in said()), "line about the job")
        assert any("(running) evaluate_" in line for line in said())
        (killed.folder / "go").touch()
    n_cells = len(undisturbed) - 2
    assert said()[-4:-1] == [
        "unlocked",
        f"noted {n_cells} files of jobs that finished after their Snakemake was dead",
        "left to run: 1 aggregate, 1 report",
    ]
    assert "go on with: snakemake" in said()[-1]
    assert samples(killed.folder) == undisturbed
    assert computed(killed) == (n_cells, 0)
    assert "submitted" not in killed.run("--until", "evaluate")
    assert killed.plan("--until", "evaluate") == {}
    killed.sweep["methods"] = {**killed.sweep["methods"], "lofi": {"rank": "fixed:3"}}
    assert killed.plan("--until", "evaluate") == {"evaluate": 1}, "a changed parameter is noticed"


def test_the_jobs_of_a_killed_snakemake_are_cancelled(killed, undisturbed):
    said = recovered(killed, "--cancel")
    assert any("cancelling 1 job: SLURM job" in line for line in said)
    assert {"unlocked", "no job is left of it", "left to run: 1 evaluate, 1 aggregate, 1 report"} <= set(said)
    assert killed.cluster.jobs("CANCELLED")
    assert len(samples(killed.folder)) == 2, "the reference, which was finished, is still there"
    (killed.folder / "go").touch()
    killed.run("--until", "evaluate")
    assert computed(killed) == (len(undisturbed) - 2, 0)
    assert samples(killed.folder) == undisturbed
