"""A real SLURM for these tests, and sweeps that run on it through the profile that users have."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, require
from tests.slurm.cluster import APT, PROGRAMS, Cluster
from tests.workflow.conftest import Workflow

# The profile's first look at a job comes after 40 s, which suits jobs of hours.
SOON = ("--slurm-init-seconds-before-status-checks", "6", "--latency-wait", "10")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    for program in PROGRAMS:
        require(program, APT)
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

    def run(self, *arguments: str, ok: bool = True) -> str:
        return self.snakemake("--profile", "slurm", *SOON, *arguments, ok=ok)


def smoke(tiny_model: Path, **changes: object) -> dict[str, object]:
    """The smoke sweep on an untrained model, without the job that measures self-agreement."""
    sweep = yaml.safe_load((REPOSITORY / "workflow/sweeps/smoke.yaml").read_text())
    sweep["stability_images"] = 0
    sweep["models"]["digits-llava"] = {"source": str(tiny_model), "batch_images": 8}
    return {**sweep, **changes}
