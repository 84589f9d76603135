"""Put the page together: tables in, one self-contained HTML file out."""

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lofi import __version__
from lofi.errors import UserError
from lofi.report import benchmarks, drilldown, figures, overview, quantised, self_agreement, sentences
from lofi.report.audit import Audit, read
from lofi.report.tables import correlation_table, flip_table, kept_tables

HERE = Path(__file__).parent
MAX_BYTES = 5_000_000
# Most samples, and most rows of each kind of table: fewer where the page would grow too large.
CAPS = ((drilldown.CAP, 1500), (75, 700), (30, 300), (0, 100))


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
) -> None:
    """Write the report of a sweep to `output`.

    sweep: the config, as `Sweep.to_dict` writes it. expected: every sample file that must exist. tables: the
    folder of the aggregate stage. data: the folder of prepared datasets. generated: a date to print, or None for a
    page that depends on nothing but its input. thumbnails: the datasets whose licence allows images in the page.
    """
    audit = read(tables, sweep)
    overview.check_complete(audit, expected)
    context = _context(audit, sweep, expected, command=command, generated=generated)
    for cap, most in CAPS:
        page = render(context | _tables(audit, most) | _samples(audit, tables, data, thumbnails, cap))
        if len(page.encode()) <= MAX_BYTES:
            _write(page, output)
            return
    raise UserError(
        f"the report would be larger than {MAX_BYTES // 1_000_000} MB; split the sweep into reports of fewer datasets"
    )


def _context(
    audit: Audit, sweep: Mapping[str, Any], expected: Sequence[Path], *, command: str, generated: str | None
) -> dict[str, Any]:
    return {
        "audit": audit,
        "version": __version__,
        "command": command,
        "generated": generated,
        "config": json.dumps(dict(sweep), indent=2),
        "sentences": [*sentences.answer(audit), *filter(None, [quantised.answer(audit)])],
        "warnings": overview.warnings(audit),
        "counts": overview.counts(audit, expected),
        "provenance": overview.provenance(audit),
        "settings": overview.settings(audit),
        "failures": sorted((run for run in audit.runs if run["errors"]), key=lambda run: -run["errors"]),
        "stability": self_agreement.lead(audit),
        "fig_answer": figures.kept_against_kept(audit),
        "fig_keep": figures.by_keep(audit),
        "fig_flips": figures.flip_classes(audit),
        "fig_ipr": figures.ipr(audit),
    }


def _tables(audit: Audit, most: int) -> dict[str, Any]:
    return {
        "kept_tables": kept_tables(audit, most),
        "benchmarks": benchmarks.benchmarks(audit, most),
        "flip_table": flip_table(audit, most),
        "correlation_table": correlation_table(audit, most),
        "stability_table": self_agreement.stability_table(audit, most),
    }


def _samples(audit: Audit, folder: Path, data: Path, thumbnails: Collection[str], cap: int) -> dict[str, Any]:
    chosen, total = drilldown.choose(audit, folder, cap)
    samples, images = drilldown.samples(chosen, data, thumbnails)
    filters = {
        name: list(dict.fromkeys(getattr(sample, name) for sample in samples))
        for name in ("model", "dataset", "method", "keep", "kind")
    }
    return {"samples": samples, "images": images, "n_flips": total, "filters": filters}


def render(context: Mapping[str, Any]) -> str:
    """The page. Everything but lofi's own style, script and drawings is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = (HERE / "app.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("template.html.j2").render(
        **context,
        style=Markup((HERE / "style.css").read_text()),
        script=Markup(script),
        script_digest=digest,
    )


def _write(page: str, output: Path) -> None:
    """All of the page or nothing: temporary name, then rename."""
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(temporary, 0o644)
        os.replace(temporary, output)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
