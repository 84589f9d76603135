"""Changes to a folder: files edited, cut, replaced and taken away."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from lofi import store
from tests.errors.folders import write_config, write_shelf

Change = Callable[[Path], object]
TINY = "model=tiny/dataset=digits-pope"
FULL = f"results/samples/{TINY}/method=full/keep=1.0000/seed=0/shard-0000.parquet"
LOFI = f"results/samples/{TINY}/method=lofi/keep=0.2500/seed=0/shard-0000.parquet"


def config(**changes: object) -> Change:
    """A config with some entries replaced."""
    return lambda folder: write_config(folder, **changes)


def shelf(**changes: object) -> Change:
    """The card of one's own dataset with some entries replaced."""
    return lambda folder: write_shelf(folder, **changes)


def written(name: str, text: str | bytes) -> Change:
    """A file with this content."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    return change


def edited(name: str, old: str, new: str) -> Change:
    """A text file with one place replaced."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert text.count(old) == 1, (name, old)
        (folder / name).write_text(text.replace(old, new))

    return change


def cut(name: str, share: float = 0.5) -> Change:
    """A file of which only the start is left."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


def gone(name: str) -> Change:
    """A file or a folder taken away."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def folder_at(name: str) -> Change:
    """A folder where a file should be."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir(parents=True)

    return change


def file_at(name: str) -> Change:
    """A file where a folder should be."""
    return written(name, "")


def closed(name: str, mode: int = 0) -> Change:
    """A file or a folder with these permissions."""
    return lambda folder: (folder / name).chmod(mode)


def copied(source: str, target: str) -> Change:
    """A file under the name of another."""
    return lambda folder: shutil.copyfile(folder / source, folder / target)


def without(name: str, *columns: str) -> Change:
    """A Parquet file that lacks columns."""

    def change(folder: Path) -> None:
        pq.write_table(pq.ParquetFile(folder / name).read().drop_columns(list(columns)), folder / name)

    return change


def stamped(name: str, **changes: object) -> Change:
    """A Parquet file with other entries in its stamp."""

    def change(folder: Path) -> None:
        path = folder / name
        store.write_table(pq.ParquetFile(path).read(), path, {**store.read_metadata(path), **changes})

    return change


def column(name: str, column: str, value: object) -> Change:
    """A Parquet file with one value all down a column, written as lofi writes files."""

    def change(folder: Path) -> None:
        path = folder / name
        table = pq.ParquetFile(path).read()
        at = table.schema.get_field_index(column)
        values = store.column(column, [value] * table.num_rows)
        store.write_table(table.set_column(at, column, values), path, store.read_metadata(path))

    return change


def entries(name: str, **changes: object) -> Change:
    """A JSON file with some of its entries replaced."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def settings(**changes: object) -> Change:
    """The settings of the one model of the config."""

    def change(folder: Path) -> None:
        sweep = yaml.safe_load((folder / "config.yaml").read_text())
        [model] = sweep["models"]
        sweep["models"][model] = {**sweep["models"][model], **changes}
        (folder / "config.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))

    return change


def all_of(*changes: Change) -> Change:
    """Several changes."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change
