"""A job whose node is wanted by a partition that goes first: SIGTERM, 30 seconds, and the end; SLURM queues it again."""

import shutil
from pathlib import Path

import pytest

from tests.slurm.cluster import CPUS, Cluster
from tests.slurm.conftest import OnCluster
from tests.workflow.conftest import Workflow, samples
from tests.workflow.test_kills import mark, marked, parts, wait_for

pytestmark = pytest.mark.slow  # a minute or more each


@pytest.fixture
def begun(tiny_model: Path, tmp_path: Path) -> Workflow:
    """A sweep of four cells in three parts, two of which take seconds, with its reference done on this machine."""
    sweep = {
        "models": {"m": {"source": str(tiny_model), "batch_images": 4}},
        "datasets": {"digits-pope": {"limit": 136}},
        "methods": {"random": {}, "lofi": {}},
        "keeps": [0.5, 0.25],
        "stability_images": 0,
    }
    workflow = Workflow(tmp_path / "begun", sweep)
    workflow.folder.mkdir()
    workflow.run("--until", "reference")
    return workflow


def displace(cluster: Cluster) -> None:
    """Take the whole node for a moment; its job is back in the queue then, and may start at once."""
    (job,) = cluster.jobs("RUNNING")
    assert cluster.ask("sbatch", "-p", "urgent", f"-c{CPUS}", "--mem=100", "-o", "/dev/null", "--wrap", "true")

    def again() -> dict[str, str]:
        (found,) = (each for each in cluster.jobs() if each["JobId"] == job["JobId"])
        return found

    cluster.wait(lambda: again()["JobState"] == "PENDING" and again()["Restarts"] == "1", "requeued job", 60)
    cluster.wait(lambda: cluster.jobs("PENDING") == [again()], "end of the urgent job")


def test_a_preempted_job_goes_on_from_its_parts(cluster, begun, tmp_path):
    shutil.copytree(begun.folder, tmp_path / "displaced")
    displaced = OnCluster(tmp_path / "displaced", dict(begun.sweep), cluster=cluster)
    begun.run("--until", "evaluate")

    with displaced.running("--until", "evaluate") as process:
        wait_for(lambda: len(parts(displaced.folder)) == 4, process)
        displace(cluster)
        assert not displaced.alive(), "nothing of the job outlives it"
        kept = parts(displaced.folder)
        assert len(kept) == 8, "the part in flight was finished in the grace"
        n_marked = sum(map(mark, kept))
        (job,) = cluster.jobs("PENDING")
        cluster.ask("scontrol", "update", f"jobid={job['JobId']}", "StartTime=now")  # else after two minutes
        displaced.finish(process)
    assert samples(displaced.folder) == samples(begun.folder)
    assert marked(displaced.folder) == n_marked, "finished parts were used, not computed again"
    assert not parts(displaced.folder)
