"""A real SLURM for these tests, and sweeps that run on it through the profile that users have."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lofi.recover.processes import is_job
from tests.conftest import REPOSITORY, require
from tests.slurm.cluster import APT, PROGRAMS, Cluster
from tests.workflow.conftest import Workflow, copy_of, samples
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


def _interruptible() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run beside the block, which has to end it."""
        with open(self.folder / "said.txt", "w") as output:
            process = subprocess.Popen(
                self.command("--profile", "slurm", *SOON, *arguments),
                cwd=REPOSITORY,
                env=self.environment,
                stdout=output,
                stderr=output,
                preexec_fn=_interruptible,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def finish(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the good end of a run; all that it said."""
        code = process.wait(400)
        said = (self.folder / "said.txt").read_text()
        assert code == 0, f"{said}\n{self.logs()}"
        return said

    def alive(self) -> list[Path]:
        """The stages that run in the folder, in SLURM's jobs or escaped from them, as folders of /proc."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.folder:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    found += [entry] if is_job(words) else []
            except OSError:  # it has ended
                continue
        return found


@dataclass
class Held(OnCluster):
    """A workflow whose `lofi evaluate` waits until it is told to go on."""

    def __post_init__(self) -> None:
        lofi = self.folder / "bin" / "lofi"
        lofi.parent.mkdir()
        lofi.write_text(HELD.format(python=sys.executable, program=str(Path(sys.executable).parent / "lofi")))
        lofi.chmod(0o755)

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
