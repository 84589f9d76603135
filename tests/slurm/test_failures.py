"""What goes wrong on a cluster. After each, the samples are those of a run that nobody disturbed."""

import signal

import pytest

from tests.slurm.conftest import Held
from tests.workflow.conftest import samples

# The plugin looks again after 12 and 22 more seconds: as long as a job of these takes to fail, and to be run again.
EVALUATE = ("--until", "evaluate", "--slurm-init-seconds-before-status-checks", "12")


@pytest.fixture
def one_by_one(held: Held) -> Held:
    """The sweep with two jobs of one cell each."""
    held.sweep["pack"] = []
    return held


def jobs_of(workflow: Held, seen: set[str]) -> list[dict[str, str]]:
    """The jobs that were submitted since these were seen."""
    return [job for job in workflow.cluster.jobs() if job["JobId"] not in seen]


def ids(jobs: list[dict[str, str]]) -> set[str]:
    return {job["JobId"] for job in jobs}


def wait_until_held(workflow: Held, count: int) -> None:
    """Until so many jobs have come to the command line of `lofi evaluate`."""
    workflow.cluster.wait(lambda: len(workflow.alive()) == count, f"{count} jobs that run")


def slurm_logs(workflow: Held) -> str:
    """What SLURM noted of failed jobs; Snakemake removes the notes of the others."""
    return "\n".join(path.read_text() for path in workflow.folder.glob("logs/slurm/**/*.log"))


def devices(workflow: Held) -> set[str]:
    """The GPUs that SLURM shows to the jobs."""
    words = {word for process in workflow.alive() for word in process.environment}
    return {word for word in words if word.startswith("CUDA_VISIBLE_DEVICES=")}


def test_a_node_is_drained_snakemake_interrupted_a_job_cancelled_and_memory_too_small(one_by_one, undisturbed):
    """All in one, and in this order: the daemons, the reference and every start of Snakemake cost seconds."""
    cluster, seen = one_by_one.cluster, ids(one_by_one.cluster.jobs())
    cluster.ask("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=test")
    with one_by_one.running(*EVALUATE) as process:
        cluster.wait(lambda: len(jobs_of(one_by_one, seen)) == 2, "jobs in the queue")
        for job in jobs_of(one_by_one, seen):
            assert (job["JobState"], job["Partition"], job["TresPerJob"]) == ("PENDING", "gpu", "gres:gpu:1")
            assert (job["MinMemoryNode"], job["TimeLimit"], job["Requeue"]) == ("16050M", "00:40:00", "1")
        cluster.ask("scontrol", "update", f"nodename={cluster.host}", "state=resume")
        wait_until_held(one_by_one, 2)
        assert devices(one_by_one) == {"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"}
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 1
    assert {job["JobState"] for job in jobs_of(one_by_one, seen)} == {"CANCELLED"}
    cluster.wait(lambda: not one_by_one.alive(), "end of what the jobs had started")
    assert not list(one_by_one.folder.glob(".snakemake/locks/*"))

    seen = ids(cluster.jobs())
    with one_by_one.running(*EVALUATE, "--set-resources", "evaluate:mem_mb=500*attempt**2") as process:
        wait_until_held(one_by_one, 2)
        cluster.ask("scancel", cluster.jobs("RUNNING")[0]["JobId"])
        one_by_one.let_go()
        one_by_one.finish(process)
    assert "exceeded memory limit" in slurm_logs(one_by_one)
    assert sorted((job["JobState"], job["MinMemoryNode"]) for job in jobs_of(one_by_one, seen)) == [
        ("CANCELLED", "500M"),
        ("COMPLETED", "2000M"),
        ("COMPLETED", "2000M"),
        ("FAILED", "500M"),
    ]
    assert samples(one_by_one.folder) == undisturbed


@pytest.mark.slow
def test_a_job_that_runs_out_of_time_is_started_again_with_more(held, undisturbed):
    seen = ids(held.cluster.jobs())
    with held.running(*EVALUATE, "--set-resources", "evaluate:runtime=1*attempt**3") as process:
        held.cluster.wait(lambda: bool(held.cluster.jobs("TIMEOUT")), "job out of time", 240)
        held.let_go()
        held.finish(process)
    found = [(job["JobState"], job["TimeLimit"]) for job in jobs_of(held, seen)]
    assert sorted(found) == [("COMPLETED", "00:08:00"), ("TIMEOUT", "00:01:00")]
    assert samples(held.folder) == undisturbed


@pytest.mark.slow
def test_a_job_whose_node_is_lost_goes_back_into_the_queue(held, undisturbed):
    cluster, seen = held.cluster, ids(held.cluster.jobs())
    with held.running(*EVALUATE) as process:
        wait_until_held(held, 1)
        cluster.lose_node()
        held.let_go()
        cluster.start_node()
        # SLURM starts it after two minutes; not now, as it still has to take back the first start from the node
        held.finish(process)
    (job,) = jobs_of(held, seen)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert samples(held.folder) == undisturbed
