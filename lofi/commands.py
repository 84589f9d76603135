"""What each sub-command does. Heavy imports wait until they are needed."""

import os
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lofi.errors import UserError
from lofi.startup import keep_freed_memory, large_imports

if TYPE_CHECKING:
    from lofi.sweep import DatasetSpec


def plan(options: Namespace) -> None:
    """Print what a sweep will cost."""
    _before_torch()
    from lofi.config import load
    from lofi.plan.plan import plan
    from lofi.plan.table import lines, missing_line

    if options.tflops is not None and not 0 < options.tflops < float("inf"):
        raise UserError(f"--tflops {options.tflops:g} is no rate; give a number above 0, such as 94")
    found = plan(load(options.sweep), options.results, options.tflops)
    for line in lines(found):
        print(line)
    if found.missing:
        raise UserError(missing_line(found, str(options.sweep)))


def prepare(options: Namespace) -> None:
    """Bring a dataset or a model onto this machine."""
    from lofi.config import check_revision, load

    sweep = load(options.config)
    if options.model:
        from lofi.models.fetch import fetch_description, fetch_model

        model = sweep.model(options.model)
        if options.without_weights:
            folder = fetch_description(model.source, model.planned_revision)
        else:
            check_revision(model)
            folder = fetch_model(model.source, model.revision)
            if model.text_tower:
                _say(f"its text tower is at {fetch_model(model.text_tower, None)}")
        _say(f"{model.name} is at {folder}")
        return
    from lofi.data.prepare import prepare
    from lofi.data.registry import get_card
    from lofi.progress import Progress

    spec = sweep.dataset(options.dataset)
    with Progress(f"prepare {spec.name}", 0, "question") as progress:
        prepare(
            get_card(spec.card_name),
            options.results / "data" / spec.name,
            limit=spec.limit,
            prompt_style=spec.prompt_style,
            source=spec.source,
            exif=spec.exif,
            progress=lambda questions, images: progress.reach(questions),
        )


def reference(options: Namespace) -> None:
    """Run the full model and the noise floor."""
    _before_torch()
    from lofi.engine.stages import reference

    tally = reference(_job(options))
    _say(f"computed {tally.computed} cells, {tally.from_cache} from cache")


def evaluate(options: Namespace) -> None:
    """Run reduced cells."""
    _before_torch()
    from lofi.engine.stages import evaluate

    job = _job(options)
    tally = evaluate(job, job.cells(options.method, options.keep, options.seed))
    _say(f"computed {tally.computed} cells, {tally.from_cache} from cache")


def stability(options: Namespace) -> None:
    """Measure self-agreement."""
    _before_torch()
    job = _job(options)
    if not job.sweep.stability_images:
        raise UserError("stability_images is 0 in this sweep, so there is nothing to compare; set it to 32, say")
    with large_imports("transformers"):
        from lofi.engine.stability import stability

    _say(f"wrote {stability(job)} rows")


def rescore(options: Namespace) -> None:
    """Grade stored answers again."""
    from lofi.config import load
    from lofi.rescoring import rescore

    for found in rescore(load(options.config), options.results, options.dataset, options.scorer):
        print(found)


def aggregate(options: Namespace) -> None:
    """Make the tables."""
    from lofi.config import load
    from lofi.data.registry import get_card

    with large_imports("duckdb"):
        from lofi.stats.aggregate import aggregate

    sweep = load(options.config)
    aggregate(
        _sample_files(sweep, options.results),
        options.results / "tables",
        options.results / "audit.duckdb",
        metrics={spec.name: get_card(spec.card_name).metrics for spec in sweep.datasets},
        stability=[options.results / path for path in sweep.stability_files()],
        random=[method.name for method in sweep.methods if method.reducer == "random"],
    )


def report(options: Namespace) -> None:
    """Make the page."""
    from datetime import date

    from lofi.config import load
    from lofi.provenance import commit

    with large_imports("matplotlib"):
        from lofi.report.build import build
    from lofi.reproduce.facts import facts_of_run
    from lofi.reproduce.manifest import Manifest
    from lofi.store import first_broken

    sweep, tables = load(options.config), options.results / "tables"
    cells = _sample_files(sweep, options.results)
    command, generated = shlex.join(["lofi", *options.given]), options.date or date.today().isoformat()
    try:
        build(
            sweep.to_dict(),
            cells,
            tables,
            options.results / "data",
            options.output,
            command=command,
            generated=generated,
            thumbnails={spec.name for spec in sweep.datasets if shows_images(spec)},
            manifest=lambda: Manifest(
                command, generated, commit(), sweep.to_dict(), facts_of_run(sweep, options.results)
            ).to_json(),
        )
    except Exception as error:  # of Arrow, of DuckDB or of the page itself: is it a file's fault?
        if isinstance(error, UserError) or (broken := first_broken([*cells, *tables.glob("*.parquet")])) is None:
            raise
        raise UserError(f"{broken} cannot be read; delete it, and run the sweep again, which makes it anew") from error


def shows_images(dataset: "DatasetSpec") -> bool:
    """Whether a report may hold copies of a dataset's images: as the config says, else where lofi draws them."""
    from lofi.data.registry import get_card

    return dataset.report_images == "shown" or (
        dataset.report_images == "auto" and bool(get_card(dataset.card_name).generated)
    )


def figures(options: Namespace) -> None:
    """Write the figures as files."""
    from lofi.config import load
    from lofi.report.paper import write

    sweep = load(options.config)
    expected, tables = _sample_files(sweep, options.results), options.results / "tables"
    for path in write(sweep.to_dict(), expected, tables, options.output, options.only):
        print(path)


def recover(options: Namespace) -> None:
    """Put a folder in order after its Snakemake was killed."""
    from lofi.recover.recover import recover

    recover(options.directory, _say, cancel=options.cancel, profile=options.profile, dead_host=options.dead_host)


def train_digits(options: Namespace) -> None:
    """Train an embedded model."""
    _before_torch()
    from lofi.training.train import PLANS, train

    train(PLANS[options.model], options.output, options.work, seed=options.seed, device=options.device)


def bench_data(options: Namespace) -> None:
    """Write a made-up sweep."""
    from lofi.config import from_dict
    from lofi.made_up import config_of, write_samples

    sweep = from_dict(config_of(options.models, options.datasets, options.methods, options.keeps))
    written = write_samples(sweep, options.folder, options.samples)
    (options.folder / "sweep.json").write_text(sweep.to_json() + "\n", encoding="utf-8")
    _say(
        f"{written} cells of {options.samples} samples; lofi aggregate --config {options.folder}/sweep.json "
        f"--results {options.folder} makes their tables"
    )


def _job(options: Namespace) -> Any:
    from lofi.config import load
    from lofi.engine.job import open_job

    return open_job(options.results, load(options.config), options.model, options.dataset, options.shard)


def _sample_files(sweep: Any, results: Path) -> list[Path]:
    return [results / cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)]


def _before_torch() -> None:
    """What libraries read when they are first imported, unless the user has set it, and how memory is held.

    Compute jobs never reach for the network, and so need no token. And threads that wait must not spin: on shared
    cores two jobs that spin were measured to run five times slower than two that sleep.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        os.environ.pop(name, None)
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)
    keep_freed_memory()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
