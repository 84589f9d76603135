"""The whole workflow through `snakemake --profile slurm`, on a real SLURM."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.slurm.conftest import OnCluster, smoke
from tests.workflow.conftest import HOW_IT_RAN, PACKS, Workflow, samples

pytestmark = pytest.mark.slow  # a minute or more each


def numbers(folder: Path) -> dict[str, list]:
    """The contents of every table, without what differs between two equal runs."""
    tables = {path.stem: pq.read_table(path) for path in sorted((folder / "results/tables").glob("*.parquet"))}
    assert len(tables) > 15
    del tables["runs"]  # versions, commit and machine
    return {
        name: table.drop_columns(sorted(HOW_IT_RAN & set(table.column_names))).to_pylist()
        for name, table in tables.items()
    }


@pytest.fixture(scope="module")
def local(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep, run without a cluster."""
    workflow = Workflow(tmp_path_factory.mktemp("local"), smoke(tiny_model))
    workflow.run("--until", "aggregate")
    return workflow.folder


@PACKS
def test_a_sweep_gives_the_same_samples_as_without_a_cluster(cluster, local, tiny_model, tmp_path, pack):
    workflow = OnCluster(tmp_path, smoke(tiny_model, pack=pack), cluster=cluster)
    before = {job["JobId"] for job in cluster.jobs()}
    workflow.run()
    assert samples(tmp_path) == samples(local)
    assert repr(numbers(tmp_path)) == repr(numbers(local))  # as text: NaN is not equal to itself
    assert (tmp_path / "reports/index.html").is_file()

    jobs = [job for job in cluster.jobs() if job["JobId"] not in before]
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    with_gpu = [job for job in jobs if job.get("TresPerJob") == "gres:gpu:1"]
    assert all(job["Partition"] == ("gpu" if job in with_gpu else "cpu") for job in jobs)
    assert len(jobs) - len(with_gpu) == 2, "aggregate and report"
    assert len(with_gpu) == 1 + (1 if pack else 2), "the reference, and the cells in one job or one by one"
    assert "Nothing to be done" in workflow.run()
