"""How numbers lie in a file, and that a file in which they lie otherwise is read the same."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi import store
from lofi.encodings import encodings
from lofi.stats import stored_spectra
from tests.unit.synthetic import make_sweep, write_sweep


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    sweep = make_sweep(models=("tiny-a",), datasets=("scenes-letters",), keeps=("0.5000",), images=3)
    return write_sweep(sweep, tmp_path_factory.mktemp("results"), shards=1)


def test_every_column_is_named_as_the_file_names_it(files: list[Path]) -> None:
    written = pq.ParquetFile(files[0]).schema
    named = [path for paths in encodings(store.SAMPLES).values() for path in paths]
    assert sorted(named) == sorted(written.column(at).path for at in range(len(written.names)))


def test_floats_have_no_dictionary_and_all_else_has(files: list[Path]) -> None:
    found = pq.read_metadata(files[0]).row_group(0)
    for column in map(found.column, range(found.num_columns)):
        is_float = column.physical_type in ("FLOAT", "DOUBLE")
        assert ("BYTE_STREAM_SPLIT" in column.encodings) is is_float, column.path_in_schema
        assert column.has_dictionary_page is (not is_float and column.physical_type != "BOOLEAN"), column.path_in_schema


def test_a_file_that_is_packed_otherwise_holds_the_same(files: list[Path], tmp_path: Path) -> None:
    table, other = store.read_checked(files[0]), tmp_path / "other.parquet"
    pq.write_table(table, other, compression="zstd", row_group_size=5)
    assert repr(store.read_checked(other).to_pylist()) == repr(table.to_pylist())
    one, again = stored_spectra.read([str(files[0])]), stored_spectra.read([str(other)])
    assert again.sets == one.sets
    assert again.sample_ids.equals(one.sample_ids)
    assert (again.measured == one.measured).all()
    assert again.values.tobytes() == one.values.tobytes()


def test_structs_lists_and_maps() -> None:
    struct = pa.struct([("a", pa.float32()), ("b", pa.list_(pa.string()))])
    schema = pa.schema([("x", pa.list_(struct)), ("m", pa.map_(pa.string(), pa.float64())), ("n", pa.int32())])
    assert encodings(schema) == {
        "use_dictionary": ["x.list.element.b.list.element", "m.key_value.key", "n"],
        "use_byte_stream_split": ["x.list.element.a", "m.key_value.value"],
    }
