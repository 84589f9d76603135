"""What each sub-command does. Heavy imports wait until they are needed."""

import os
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from lofi.errors import UserError


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


def check(options: Namespace) -> int | None:
    """Check results where there is a reference to hold them against, else a config."""
    if options.reference is not None:
        return _check_results(options)
    for name in (
        "max_flip_rate",
        "min_agreement",
        "max_negative_flips",
        "method",
        "keep",
        "confident",
        "junit",
        "json",
    ):
        if getattr(options, name) not in (None, False, []):
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{option} is about results, and without --reference a config is checked; add --reference full"
            )
    _check_config(options)
    return None


def _check_config(options: Namespace) -> None:
    """Say that nothing is wrong with a config, and how its datasets are asked and graded."""
    from lofi.config import check_models, load
    from lofi.identity import scorer_of
    from lofi.scoring.registry import get_scorer

    sweep = load(options.config)
    check_models(sweep)
    print(
        f"{options.config}: {len(sweep.cells())} cells of {len(sweep.models)} models, {len(sweep.datasets)} datasets, "
        f"{len(sweep.methods)} methods and {len(sweep.keeps)} keeps; nothing is wrong"
    )
    for dataset in sweep.datasets:
        scorer = scorer_of(dataset)
        print(
            f"{dataset.name}: card {dataset.card_name}, prompts {dataset.prompt_style}, scorer {scorer} version "
            f"{get_scorer(scorer).version}, scoring mode {dataset.scoring_mode}, EXIF {dataset.exif}"
        )
    for model in sweep.models:
        print(f"{model.name}: template {model.template or 'of the checkpoint'}, images {model.image_mode}")


def _check_results(options: Namespace) -> int:
    """Say which cells break a limit; 1 if any does."""
    from lofi.stats import gate, verdicts

    rules = gate.rules_of(
        max_flip_rate=options.max_flip_rate,
        min_agreement=options.min_agreement,
        max_negative_flips=options.max_negative_flips,
    )
    found = gate.chosen(gate.read(options.results / "tables", options.reference), options.method, options.keep)
    judged = gate.judge(found, rules, confident=options.confident)
    if options.junit:
        _write(options.junit, verdicts.as_junit(judged))
    if options.json:
        _write(options.json, verdicts.as_json(judged, confident=options.confident))
    print(verdicts.as_lines(judged, confident=options.confident), end="")
    return 0 if all(each.passed for each in judged) else 1


def certify(options: Namespace) -> None:
    """Print what is shown to stay below a limit."""
    from lofi.stats import certificates

    risk, limit = "negative_flip", options.max_negative_flips
    if options.max_divergence is not None:
        risk, limit = "divergence", options.max_divergence
    if limit is None:
        limit = certificates.LIMITS[risk]
    found = certificates.certify(certificates.read(options.results / "tables"), risk, limit, options.confidence)
    print(certificates.as_text(found, options.format), end="")


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


def data_check(options: Namespace) -> int:
    """Say what is wrong with a dataset; 1 if anything is."""
    from lofi.data.registry import get_card
    from lofi.data_check import check_data
    from lofi.progress import Progress

    card = get_card(options.dataset)
    style = options.prompt_style or next(iter(card.prompts))
    with Progress(f"check {card.name}", 0, "row") as progress:
        wrong = check_data(
            card, print, prompt_style=style, source=options.source, limit=options.limit, progress=progress.reach
        )
    return 1 if wrong else 0


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
    from lofi.stats.aggregate import aggregate

    sweep = load(options.config)
    aggregate(
        [options.results / cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)],
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
    from lofi.data.registry import GENERATED, get_card
    from lofi.report.build import build
    from lofi.store import first_broken

    sweep, tables = load(options.config), options.results / "tables"
    cells = [options.results / cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)]
    try:
        build(
            sweep.to_dict(),
            cells,
            tables,
            options.results / "data",
            options.output,
            command=shlex.join(["lofi", *sys.argv[1:]]),
            generated=options.date or date.today().isoformat(),
            # other datasets' images are not ours to put into a page
            thumbnails={spec.name for spec in sweep.datasets if get_card(spec.card_name).source.startswith(GENERATED)},
        )
    except Exception as error:  # of Arrow, of DuckDB or of the page itself: is it a file's fault?
        if isinstance(error, UserError) or (broken := first_broken([*cells, *tables.glob("*.parquet")])) is None:
            raise
        raise UserError(f"{broken} cannot be read; run the sweep again, which replaces it") from error


def query(options: Namespace) -> None:
    """Print what SQL finds in the tables."""
    from lofi.stats.query import query

    print(query(options.sql, options.results / "tables", format=options.format))


def status(options: Namespace) -> None:
    """Print how far a sweep is."""
    from lofi.config import load
    from lofi.engine.status import status

    for line in status(load(options.config), options.results):
        print(line)


def recover(options: Namespace) -> None:
    """Put a folder in order after its Snakemake was killed."""
    from lofi.recover.recover import recover

    recover(options.directory, _say, cancel=options.cancel, profile=options.profile, dead_host=options.dead_host)


def train_digits(options: Namespace) -> None:
    """Train an embedded model."""
    _before_torch()
    from lofi.training.train import PLANS, train

    train(PLANS[options.model], options.output, options.work, seed=options.seed, device=options.device)


def _job(options: Namespace) -> Any:
    from lofi.config import load
    from lofi.engine.job import open_job

    return open_job(options.results, load(options.config), options.model, options.dataset, options.shard)


def _before_torch() -> None:
    """What libraries read when they are first imported, unless the user has set it.

    Compute jobs never reach for the network, and so need no token. And threads that wait must not spin: on shared
    cores two jobs that spin were measured to run five times slower than two that sleep.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        os.environ.pop(name, None)
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); give another path") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
