"""Put the report together: tables in, one HTML file and the folder of its samples out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lofi.errors import UserError
from lofi.report import explorer
from lofi.report.audit import Audit, Making, read
from lofi.report.completeness import check_complete
from lofi.report.fit import fitted
from lofi.report.page import Page
from lofi.report.pages import PAGES
from lofi.report.publish import MANIFEST, draft, folder_of
from lofi.report.render import render
from lofi.report.sources import sources_page
from lofi.report.words import count

MAX_BYTES = 15_000_000
NAMED = 5  # models or datasets that are still named before they are counted


def build(
    sweep: Mapping[str, Any],
    expected: Sequence[Path],
    tables: Path,
    data: Path,
    output: Path,
    *,
    command: str,
    generated: str | None,
    thumbnails: Collection[str] = (),
    manifest: Callable[[], str] | None = None,
) -> None:
    """Write the report of a sweep to `output`.

    sweep: the config, as `Sweep.to_dict` writes it. expected: every sample file that must exist. tables: the
    folder of the aggregate stage. data: the folder of prepared datasets. generated: a date to print, or None for a
    page that depends on nothing but its input. thumbnails: the datasets whose licence allows images in the page.
    manifest: says how both were made, once all is there: the text of `manifest.json` in the folder beside the page.
    """
    audit = read(tables, sweep)
    check_complete(audit, expected)
    with draft(output) as made:
        side = explorer.write(audit, tables, data, folder_of(made), thumbnails)
        if manifest:
            (folder_of(made) / MANIFEST).write_text(manifest(), encoding="utf-8")
        beside = f"{folder_of(output).name}/{MANIFEST}" if manifest else ""
        audit = replace(audit, making=Making(command, generated, len(expected), beside), side=side)
        text = render(all_pages(audit), title=title(audit), lede=lede(audit)).encode()
        if len(text) > MAX_BYTES:
            raise UserError(
                f"the report would have {len(text) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}; "
                "split the sweep into reports of fewer datasets"
            )
        made.write_bytes(text)


def all_pages(audit: Audit) -> list[Page]:
    """Every page in order, and last where their numbers come from."""
    pages = fitted([page for make in PAGES for page in make(audit)])
    return [*pages, sources_page(pages)]


def title(audit: Audit) -> str:
    """What the browser's tab says."""
    return f"lofi report: {', '.join(audit.models[:3])} on {', '.join(audit.datasets[:4])}"


def lede(audit: Audit) -> str:
    """What was run, in one sentence."""
    models, datasets = (
        ", ".join(names) if len(names) <= NAMED else count(len(names), noun)
        for names, noun in ((audit.models, "model"), (audit.datasets, "dataset"))
    )
    how = "with visual tokens dropped or weights quantised" if audit.quantised else "with visual tokens dropped"
    return (
        f"{models} on {datasets}, {how} by {count(len(audit.methods), 'method')}, each compared answer by answer "
        "with the full model."
    )
