"""`lofi recover` after Snakemake was killed with its jobs in SLURM's queue."""

import pytest

from tests.slurm.conftest import Held
from tests.workflow.conftest import computed, samples
from tests.workflow.test_recover import kill_while_evaluating, recovered, recovering, until

pytestmark = pytest.mark.slow  # a minute or more each


@pytest.fixture
def killed(held: Held) -> Held:
    """The sweep on SLURM, its Snakemake killed while a node evaluates."""
    kill_while_evaluating(held, "--until", "evaluate")
    return held


def test_what_the_jobs_of_a_killed_snakemake_finish_counts(killed, undisturbed):
    with recovering(killed) as said:
        until(lambda: any("waiting for 1 job: SLURM job" in line for line in said()), "line about the job")
        assert any("(running) evaluate_" in line for line in said())
        killed.let_go()
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
    killed.let_go()
    killed.run("--until", "evaluate")
    assert computed(killed) == (len(undisturbed) - 2, 0)
    assert samples(killed.folder) == undisturbed
