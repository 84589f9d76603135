"""Bringing a hub dataset onto this machine, once: of its repository only the files of the tables that are read."""

from collections.abc import Iterable, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from lofi.data.folder import open_builder, tables_of
from lofi.data.registry import Card
from lofi.data.source import Source, parts_of, unreadable
from lofi.errors import UserError
from lofi.refusals import is_unknown, refusal

FILES_AT_ONCE = 2  # those that are not finished when a download is killed start again


def open_hub(card: Card, names: Sequence[str], revision: str) -> Source:
    """The card's tables, from the first of these names of a dataset that the hub knows.

    What was downloaded stays in the hub's cache. A connection that breaks goes on at its byte; after a kill, files
    that were finished are not asked for again. The hub's client takes the token for a gated dataset from HF_TOKEN in
    the environment; nothing else of lofi does.
    """
    refused = []
    for name in names:
        try:
            return _fetch(card, name, revision)
        except UserError:
            raise
        except Exception as error:  # of the hub, of the network and of the disk, from several libraries
            if type(error) is ValueError:  # a config or a split that the repository does not have
                raise unreadable(card, name, error) from None
            refused.append(f"{name!r} cannot be downloaded: {refusal(error, revision)}")
            if not is_unknown(error):
                break
    raise UserError(f"dataset {card.name}: {'; '.join(refused)}")


def _fetch(card: Card, name: str, revision: str) -> Source:
    from huggingface_hub import auth_check, dataset_info, snapshot_download

    auth_check(name, repo_type="dataset")  # `datasets` would not say why it is refused
    commit = dataset_info(name, revision=revision or None).sha
    builders = {part: open_builder(name, part, commit) for part in parts_of(card)}
    files = [_path(url) for (_, split), builder in builders.items() for url in _urls(builder, split)]
    folder = Path(
        snapshot_download(
            name,
            repo_type="dataset",
            revision=commit,
            allow_patterns=["README.md", *map(escape, files)],
            max_workers=FILES_AT_ONCE,
        )
    )
    for (_, split), builder in builders.items():
        _read_locally(builder, split, folder)
    return Source(name, commit, folder, tables_of(name, builders))


def _urls(builder: Any, split: str) -> list[str]:
    files = {str(each): urls for each, urls in builder.config.data_files.items()}
    return list(files[split])


def _path(url: str) -> str:
    """Of hf://datasets/owner/name@commit/path the path."""
    if not url.startswith("hf://"):
        raise ValueError(f"its file {url} lies elsewhere; lofi downloads what the repository itself holds")
    return url.partition("@")[2].partition("/")[2]


def _read_locally(builder: Any, split: str, folder: Path) -> None:
    """Point a builder to the files on this machine, and to no other split's."""
    from datasets.data_files import DataFilesDict, DataFilesList

    paths: Iterable[str] = [str(folder / _path(url)) for url in _urls(builder, split)]
    builder.config.data_files = DataFilesDict({split: DataFilesList(paths, [])})
