"""The one frozen Parquet schema of samples, atomic writing, and reading that trusts nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lofi import checksum
from lofi.encodings import encodings
from lofi.scratch import scratch

SCHEMA_VERSION = 4
METADATA_KEY = b"lofi"
SEAL_KEY = b"lofi_sha256"  # of the stamp, because Parquet has checksums of pages but none of what comes after them

_name = pa.dictionary(pa.int32(), pa.string())

# One spectrum: the tokens of one set, at one site, raw or centred by the full run's mean.
SPECTRUM = pa.struct(
    [
        ("site", pa.string()),  # projector, llm_0, llm_1_4, llm_1_2, llm_3_4, llm_last
        ("tokens", pa.string()),  # visual, text
        ("centred", pa.bool_()),
        ("n", pa.int32()),
        ("ipr", pa.float32()),
        ("ipr_u", pa.float32()),
        ("ipr_l1", pa.float32()),
        ("entropy", pa.float32()),
        ("entropy_norm", pa.float32()),
        ("erank_energy", pa.float32()),
        ("erank_rv", pa.float32()),
        ("stable_rank", pa.float32()),
        ("top1_energy", pa.float32()),
        ("k90", pa.float32()),
        ("k95", pa.float32()),
        ("k99", pa.float32()),
        ("max_row_share", pa.float32()),
    ]
)
STATISTICS = tuple(field.name for field in SPECTRUM)[4:]

SAMPLES = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("run_id", _name),
        ("model", _name),
        ("model_revision", _name),
        ("dataset", _name),
        ("split", _name),
        ("dataset_revision", _name),
        ("method", _name),
        ("method_params_hash", _name),
        ("keep", _name),  # as in the path
        ("keep_ratio", pa.float64()),  # requested share of the visual tokens
        ("seed", pa.int32()),
        ("weights", _name),  # of the decoder: none (as loaded), int8, int4
        ("sample_id", pa.string()),
        ("group_id", pa.string()),  # samples that a dataset counts together
        ("figure_id", pa.string()),  # samples about one figure, where a dataset counts these together, too
        ("cluster_id", pa.string()),
        ("image_hash", pa.string()),
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("category", _name),
        ("l2_category", _name),
        ("task_type", _name),  # mcq, yesno, open
        ("prompt_style", _name),
        ("template_hash", _name),  # of the conversation template around the prompt
        ("image_mode", _name),  # original, pad
        # what was asked for and what was kept
        ("positions", _name),  # reindexed, kept
        ("n_visual_full", pa.int32()),
        ("n_visual_kept", pa.int32()),
        ("n_kept_per_layer", pa.list_(pa.uint16())),  # visual tokens at each LLM layer's input
        ("mean_visual_tokens", pa.float32()),  # their mean over layers
        ("kept_indices", pa.list_(pa.uint16())),  # ascending; null where the method merges
        ("n_text_tokens", pa.int32()),
        ("trace", pa.map_(pa.string(), pa.float64())),  # what the reducer reports: rank, kept mass, ...
        # the answer
        ("scoring_mode", _name),  # letters, yesno, generate
        ("scorer", _name),
        ("scorer_version", pa.int16()),
        ("target", pa.string()),  # the right answer it was graded by: a label where there are options
        ("prediction", pa.string()),
        ("prediction_parsed", pa.string()),  # null = unparsed
        ("parse_status", _name),  # ok, unparsed, ambiguous, not_option
        ("score", pa.float32()),
        ("correct", pa.bool_()),
        ("n_generated", pa.int32()),
        ("finish_reason", _name),  # stop, length; null where nothing is generated
        ("gen_token_ids", pa.list_(pa.int32())),
        ("gen_logprobs", pa.list_(pa.float32())),
        # the first answer position
        ("option_labels", pa.list_(pa.string())),
        ("option_token_ids", pa.list_(pa.int32())),  # the better of the bare and the space-prefixed token
        ("option_logprobs", pa.list_(pa.float32())),  # full-vocabulary log-softmax
        ("answer_mass", pa.float32()),
        ("top1_token_id", pa.int32()),
        ("top1_text", pa.string()),  # what an unrestricted first token says: the other answer channel
        ("top1_is_option", pa.bool_()),
        ("topk_token_ids", pa.list_(pa.int32())),
        ("topk_logprobs", pa.list_(pa.float32())),
        ("ref_topk_logprobs", pa.list_(pa.float32())),  # at the full model's top tokens
        ("logsumexp", pa.float32()),
        ("entropy", pa.float32()),
        ("margin", pa.float32()),  # best minus second, over options where there are any, else over tokens
        # against the full model, exact over the whole vocabulary
        ("kl_full_to_this", pa.float64()),
        ("kl_this_to_full", pa.float64()),
        ("js", pa.float64()),
        ("tv", pa.float64()),
        ("spectra", pa.list_(SPECTRUM)),
        # how it ran
        ("t_vision_ms", pa.float32()),
        ("t_select_ms", pa.float32()),
        ("t_prefill_ms", pa.float32()),
        ("t_decode_ms", pa.float32()),
        ("dtype", _name),
        ("attn_impl", _name),
        ("device", _name),
        ("batch_size", pa.int16()),  # the most images, or questions of a row each, that ran together
        ("status", _name),  # ok, error
        ("error", pa.string()),
    ]
)

# How much of what a method keeps stays the same when its features are rounded or noised: one row per image.
STABILITY = pa.schema(
    [
        ("model", _name),
        ("dataset", _name),
        ("method", _name),
        ("keep", _name),
        ("seed", pa.int32()),
        ("variant", _name),  # bfloat16, float16, noise
        ("image_hash", pa.string()),
        ("n_visual_full", pa.int32()),
        ("n_kept", pa.int32()),  # under float32 features
        ("n_same", pa.int32()),  # how many of those are kept under the variant too
        ("n_kept_variant", pa.int32()),
        ("status", _name),  # ok, error
        ("error", pa.string()),
    ]
)


def column(name: str, values: pa.Array | Sequence[Any]) -> pa.Array:
    """Values under the type that a column of samples has."""
    kind = SAMPLES.field(name).type
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def odd_columns(schema: pa.Schema) -> str:
    """How the columns of a sample file are not those of `SAMPLES`, in words; empty where they are."""
    missing = [name for name in SAMPLES.names if name not in schema.names]
    if missing:
        return f"lacks the columns {', '.join(missing)}"
    at = {name: schema.get_field_index(name) for name in SAMPLES.names}  # -1 where two have one name
    other = [name for name, place in at.items() if place < 0 or schema.field(place).type != SAMPLES.field(name).type]
    return f"has the columns {', '.join(other)} twice or of another type" if other else ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to in a folder beside `path`; after the block it is synced and takes the place of `path`.

    So `path` either holds all that was written or is untouched, whatever kills the block.
    """
    with scratch(path) as folder:
        made = folder / path.name
        yield made
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        made.replace(path)


def stamp(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Metadata as it stands in a Parquet file, where `read_metadata` finds it."""
    text = json.dumps(dict(metadata), sort_keys=True).encode()
    return {METADATA_KEY: text, SEAL_KEY: _seal(text)}


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def is_as_stamped(schema: pa.Schema) -> bool:
    """Whether what was stamped on a file is what it says now."""
    found = schema.metadata or {}
    return SEAL_KEY not in found or found[SEAL_KEY] == _seal(found.get(METADATA_KEY, b""))


def write_table(table: pa.Table, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write `table` with its metadata, whole or not at all."""
    given = {key: value for key, value in (table.schema.metadata or {}).items() if key != checksum.KEY}
    schema = table.schema.with_metadata({**given, **stamp(metadata)})
    options = {"compression": "zstd", "write_page_checksum": True, **encodings(schema)}
    with replacing(path) as temporary, checksum.sealing(temporary, schema, **options) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=8192)


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_table` stamped on the file; empty where there is no such stamp, or it has changed since."""
    return metadata_of(pq.read_schema(path))


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """The same, of a file whose schema has been read."""
    if not is_as_stamped(schema):
        return {}
    try:
        found = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_checked(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All columns or some, where the checksums of their pages are right; an error where they are not.

    Without the dataset layer of Arrow, whose import takes longer than a small file.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            # `read` would leave out a column that is not there, and give both where two have one name
            if odd := [name for name in columns or () if file.schema_arrow.names.count(name) != 1]:
                raise pa.ArrowInvalid(f"it lacks {', '.join(odd)}, or has it twice")
            return file.read(columns=columns)
    except pa.ArrowInvalid as error:  # which does not say of what file
        raise pa.ArrowInvalid(f"{path}: {error}") from None


def read_if_valid(path: Path, key: str, n_rows: int) -> pa.Table | None:
    """The table, or None where the file is missing, unreadable, short, or of another key."""
    try:
        if read_metadata(path).get("key") != key:
            return None
        table = read_checked(path)
    except (OSError, pa.ArrowException, ValueError):
        return None
    return table if table.num_rows == n_rows else None


def first_broken(files: Iterable[Path]) -> Path | None:
    """The first file that cannot be read to its end, or has a page or a stamp that is not as it was written."""
    paths = list(files)
    with ThreadPoolExecutor() as threads:  # most of the work is reading and summing, which threads do side by side
        return next((path for path, whole in zip(paths, threads.map(_is_whole, paths), strict=True) if not whole), None)


def _is_whole(path: Path) -> bool:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not is_as_stamped(file.schema_arrow) or (whole := checksum.is_whole(path)) is False:
                return False
            for group in range(0 if whole else file.num_row_groups):
                file.read_row_group(group)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return True


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Parts of one cell as one table, sorted by sample_id."""
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return table.sort_by("sample_id")
