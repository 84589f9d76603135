"""A real SLURM for these tests, and sweeps that run on it through the profile that users have."""

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lofi.recover.processes import Process, stages
from tests.conftest import REPOSITORY, require
from tests.slurm.cluster import APT, PROGRAMS, Cluster
from tests.workflow.conftest import Workflow, copy_of, samples, write_lofi
from tests.workflow.test_recover import HELD

# The profile's first look at a job comes after 40 s, which suits jobs of hours.
SOON = ("--slurm-init-seconds-before-status-checks", "6", "--latency-wait", "10")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    for program in PROGRAMS:
        require(program, APT)
    if os.geteuid():
        pytest.skip("a node daemon that starts jobs has to be root's")
    with Cluster() as cluster:
        yield cluster


@dataclass
class OnCluster(Workflow):
    """A workflow whose jobs go to SLURM."""

    cluster: Cluster | None = None

    @property
    def environment(self) -> dict[str, str]:
        assert self.cluster
        environment = super().environment
        return {**environment, "PATH": os.pathsep.join([str(self.cluster.bin), environment["PATH"]])}

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return super().start("--profile", "slurm", *SOON, *arguments)

    def run(self, *arguments: str, ok: bool = True) -> str:
        return self.snakemake(*arguments, ok=ok)

    def alive(self) -> list[Process]:
        """The stages that run in the folder, in SLURM's jobs or escaped from them."""
        return stages(self.folder)


@dataclass
class Held(OnCluster):
    """A workflow whose `lofi evaluate` waits until it is told to go on."""

    def __post_init__(self) -> None:
        write_lofi(self.folder, HELD, Path(sys.executable).parent / "lofi")

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        return {**environment, "PATH": os.pathsep.join([str(self.folder / "bin"), environment["PATH"]])}

    def let_go(self) -> None:
        """Tell those that wait, and those to come."""
        (self.folder / "go").touch()


def smoke(tiny_model: Path, **changes: object) -> dict[str, object]:
    """The smoke sweep on eight images and an untrained model, without the job that measures self-agreement."""
    sweep = yaml.safe_load((REPOSITORY / "workflow/sweeps/smoke.yaml").read_text())
    sweep["stability_images"] = 0
    sweep["models"]["digits-llava"] = {"source": str(tiny_model), "batch_images": 8}
    for dataset in sweep["datasets"].values():
        dataset["limit"] = 8
    return {**sweep, **changes}


@pytest.fixture(scope="module")
def begun(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The smoke sweep with its reference done, on this machine."""
    workflow = Workflow(tmp_path_factory.mktemp("begun"), smoke(tiny_model))
    workflow.run("--until", "reference")
    return workflow


@pytest.fixture(scope="module")
def undisturbed(begun: Workflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """The samples of a run that nobody disturbed."""
    workflow = copy_of(begun, tmp_path_factory.mktemp("copies") / "undisturbed")
    workflow.run("--until", "evaluate")
    return samples(workflow.folder)


@pytest.fixture
def held(cluster: Cluster, begun: Workflow, tmp_path: Path) -> Held:
    """The same sweep on SLURM."""
    return Held(copy_of(begun, tmp_path / "copy").folder, copy.deepcopy(begun.sweep), cluster=cluster)
