"""Made datasets as folders in the hub's own format: parquet files with features, and a README that names them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from lofi.data.registry import get_card
from tests.datasets.pictures import PICTURES
from tests.datasets.rows import rows_of
from tests.datasets.schemas import SCHEMAS


def write_dataset(name: str, folder: Path) -> Path:
    """The made copy of a benchmark, with the configs and splits that its card names."""
    card = get_card(name)
    tables = {(card.config or "default", card.split): _table(SCHEMAS[name], rows_of(name))}
    if card.join:
        images = [{"id": f"n{i}", "image": picture} for i, picture in enumerate(PICTURES)]
        tables[card.join.config, card.join.split] = _table(SCHEMAS[f"{name}_images"], images)
    write_tables(tables, folder)
    return folder


def write_tables(tables: Mapping[tuple[str, str], pa.Table], folder: Path) -> None:
    """A folder of tables by config and split."""
    configs = []
    for (config, split), table in tables.items():
        path = folder / config / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, row_group_size=4)
        configs.append(f"- config_name: {config}\n  data_files:\n  - split: {split}\n    path: {config}/{split}-*\n")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")


def _table(features: datasets.Features, rows: list[dict[str, Any]]) -> pa.Table:
    pictured = [name for name, feature in features.items() if "Image" in str(feature)]
    stored = [{**row, **{name: _stored(row.get(name)) for name in pictured}} for row in rows]
    return pa.Table.from_pylist(stored, schema=features.arrow_schema)


def _stored(picture: Any) -> Any:
    if isinstance(picture, list):
        return [_stored(each) for each in picture]
    return picture and {"bytes": picture, "path": "made"}
