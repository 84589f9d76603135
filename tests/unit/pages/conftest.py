"""What tests of pages share: one small sweep, aggregated once per test process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from lofi.report.audit import Audit, read
from tests.unit.report_setup import Results, make_results

Altered = Callable[..., Audit]


@pytest.fixture(scope="session")
def spectral(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two models, three datasets, a random method of two seeds and one that sets its own count."""
    return make_results(
        tmp_path_factory.mktemp("spectral"),
        models=("tiny-a", "tiny-b"),
        datasets=("scenes-letters", "scenes-open", "scenes-yesno"),
        keeps=("0.2500", "16"),
        images=10,
        own=("prumerge",),
        stability=False,
    )


@pytest.fixture(scope="session")
def spectral_audit(spectral: Results) -> Audit:
    return read(spectral.root / "tables", spectral.sweep)


@pytest.fixture
def altered(spectral: Results, tmp_path: Path) -> Altered:
    """The audit of a copy of the tables, some of which are replaced by what a SELECT over the old ones finds."""

    def make(**selects: str) -> Audit:
        folder = tmp_path / "tables"
        shutil.copytree(spectral.root / "tables", folder)
        for name, select in selects.items():
            old = folder / f"{name}.parquet"
            with duckdb.connect() as con:
                con.read_parquet(str(old)).create_view(name)
                con.execute(f"COPY ({select}) TO '{tmp_path / name}' (FORMAT parquet)")
            shutil.move(tmp_path / name, old)
        return read(folder, spectral.sweep)

    return make
