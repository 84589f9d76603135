"""The sweeps that come with lofi, as far as Snakemake goes without their models; and one that is not ready."""

import pytest

from lofi.config import load
from lofi.plan.plan import plan
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("name", ["weights", "paper", "benchmarks"])
def test_snakemake_plans_as_many_jobs_as_lofi_says(stubbed, name):
    path = REPOSITORY / "workflow" / "sweeps" / f"{name}.yaml"
    found = plan(load(path), stubbed.folder / "results")
    jobs = sum(stubbed.plan("--configfile", str(path)).values()) + 1  # `all`
    assert jobs == sum(model.jobs for model in found.models) + found.shared_jobs


def test_a_revision_still_to_fill_in_stops_before_any_job(stubbed):
    stubbed.sweep["models"]["m"]["revision"] = "FILL"
    said = stubbed.run(ok=False)
    (line,) = [line for line in said.splitlines() if line.startswith("lofi:")]
    assert line.startswith("lofi: models.m: revision is still FILL, so nobody could tell what ran; give the commit")
    assert stubbed.calls() == []
