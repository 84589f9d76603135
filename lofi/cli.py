"""The command line: one sub-command per stage, and a few that look. Heavy imports wait until they are needed."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lofi import __version__
from lofi.errors import UserError

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.run
    try:
        command(options)
    except UserError as error:
        print(f"lofi {options.command}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:  # `lofi query … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _Commands:
    """The sub-commands as they are added: a name, what it runs, one sentence."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, name: str, run: Callable[[argparse.Namespace], None], sentence: str) -> argparse.ArgumentParser:
        command = self._commands.add_parser(name, help=sentence, description=sentence)
        command.set_defaults(run=run)
        return command

    def add_on_sweep(
        self, name: str, run: Callable[[argparse.Namespace], None], sentence: str
    ) -> argparse.ArgumentParser:
        command = self.add(name, run, sentence)
        command.add_argument(
            "--config", type=Path, default=Path("config.yaml"), help="the sweep (default: config.yaml)"
        )
        command.add_argument("--results", type=Path, default=Path("results"), help="default: results")
        return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lofi", description="Does a vision-language model still give the same answers with fewer visual tokens?"
    )
    parser.add_argument("--version", action="version", version=f"lofi {__version__}")
    commands = _Commands(parser)
    _add_stages(commands)
    _add_looks(commands)
    return parser


def _add_stages(commands: _Commands) -> None:
    """The stages in the order in which data flows."""
    sentence = "download or generate one dataset, or download one model; the only step that needs the network"
    prepare = commands.add_on_sweep("prepare", _prepare, sentence)
    what = prepare.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset")
    what.add_argument("--model")
    prepare.add_argument("--without-weights", action="store_true", help="of the model: what `lofi plan` reads, no more")

    reference = commands.add_on_sweep("reference", _reference, "run the full model and the noise floor on one dataset")
    evaluate = commands.add_on_sweep("evaluate", _evaluate, "run every other cell of one model and dataset")
    for stage in (reference, evaluate):
        stage.add_argument("--model", required=True)
        stage.add_argument("--dataset", required=True)
        stage.add_argument("--shard", type=int, default=0)
    evaluate.add_argument("--method", help="only this method")
    evaluate.add_argument("--keep", help="only this keep, spelled as in the paths: 0.2500, or a count")
    evaluate.add_argument("--seed", type=int, help="only this seed")

    sentence = "compare what each method keeps with what it keeps under rounded features, on one model and dataset"
    stability = commands.add_on_sweep("stability", _stability, sentence)
    stability.add_argument("--model", required=True)
    stability.add_argument("--dataset", required=True)
    stability.set_defaults(shard=0)

    commands.add_on_sweep("aggregate", _aggregate, "turn all cells into tables")

    report = commands.add_on_sweep("report", _report, "render the HTML report from the tables")
    report.add_argument("--output", type=Path, default=Path("reports/index.html"))
    report.add_argument("--date", help="the date to print (default: today)")


def _add_looks(commands: _Commands) -> None:
    """Commands beside the flow."""
    sentence = "what a sweep will cost before it runs: cells, answers, jobs, hours and bytes"
    plan = commands.add("plan", _plan, sentence)
    plan.add_argument("sweep", nargs="?", type=Path, default=Path("config.yaml"), help="default: config.yaml")
    plan.add_argument("--results", type=Path, default=Path("results"), help="whose timings count; default: results")
    plan.add_argument(
        "--tflops", type=float, help="what the device sustains, in place of stored timings (else 30 %% of an A100)"
    )

    commands.add_on_sweep("check", _check, "check a config and say how many cells it asks for")
    commands.add_on_sweep("status", _status, "how far a sweep is, cell by cell")

    tables = "cells, spectra, correlations, comparisons, flips, categories, stability, runs, samples"
    query = commands.add("query", _query, f"run SQL over the tables {tables}")
    query.add_argument("sql", help='for example "SELECT method, keep, agreement FROM cells"')
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    query.add_argument("--results", type=Path, default=Path("results"))

    sentence = "train an embedded model again, from a seed; goes on where it was killed"
    train = commands.add("train-digits", _train_digits, sentence)
    train.add_argument("--model", choices=("digits-llava", "digits-qwen"), default="digits-llava")
    train.add_argument("--output", type=Path, required=True)
    train.add_argument("--work", type=Path, required=True, help="checkpoints")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _plan(options: argparse.Namespace) -> None:
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


def _check(options: argparse.Namespace) -> None:
    from lofi.config import check_models, load

    sweep = load(options.config)
    check_models(sweep)
    print(
        f"{options.config}: {len(sweep.cells())} cells of {len(sweep.models)} models, {len(sweep.datasets)} datasets, "
        f"{len(sweep.methods)} methods and {len(sweep.keeps)} keeps; nothing is wrong"
    )


def _prepare(options: argparse.Namespace) -> None:
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
            progress=lambda questions, images: progress.reach(questions),
        )


def _job(options: argparse.Namespace) -> Any:
    from lofi.config import load
    from lofi.engine.job import open_job

    return open_job(options.results, load(options.config), options.model, options.dataset, options.shard)


def _before_torch() -> None:
    """What libraries read when they are first imported, unless the user has set it.

    Compute jobs never reach for the network, and so need no token. And threads that wait must not spin: on shared
    cores two jobs that spin were measured to run five times slower than two that sleep.
    """
    os.environ.pop("HF_TOKEN", None)
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)


def _reference(options: argparse.Namespace) -> None:
    _before_torch()
    from lofi.engine.stages import reference

    tally = reference(_job(options))
    _say(f"computed {tally.computed} cells, {tally.from_cache} from cache")


def _evaluate(options: argparse.Namespace) -> None:
    _before_torch()
    from lofi.engine.stages import evaluate

    job = _job(options)
    tally = evaluate(job, job.cells(options.method, options.keep, options.seed))
    _say(f"computed {tally.computed} cells, {tally.from_cache} from cache")


def _stability(options: argparse.Namespace) -> None:
    _before_torch()
    job = _job(options)
    if not job.sweep.stability_images:
        raise UserError("stability_images is 0 in this sweep, so there is nothing to compare; set it to 32, say")
    from lofi.engine.stability import stability

    _say(f"wrote {stability(job)} rows")


def _aggregate(options: argparse.Namespace) -> None:
    from lofi.config import load
    from lofi.stats.aggregate import aggregate

    sweep = load(options.config)
    files = [options.results / cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)]
    stability = [options.results / path for path in sweep.stability_files()]
    aggregate(files, options.results / "tables", options.results / "audit.duckdb", stability=stability)


def _report(options: argparse.Namespace) -> None:
    from datetime import date

    from lofi.config import load
    from lofi.data.registry import GENERATED, get_card
    from lofi.report.build import build

    sweep = load(options.config)
    build(
        sweep.to_dict(),
        [options.results / cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)],
        options.results / "tables",
        options.results / "data",
        options.output,
        command=shlex.join(["lofi", *sys.argv[1:]]),
        generated=options.date or date.today().isoformat(),
        # other datasets' images are not ours to put into a page
        thumbnails={spec.name for spec in sweep.datasets if get_card(spec.card_name).source.startswith(GENERATED)},
    )


def _query(options: argparse.Namespace) -> None:
    from lofi.stats.query import query

    print(query(options.sql, options.results / "tables", format=options.format))


def _status(options: argparse.Namespace) -> None:
    from lofi.config import load
    from lofi.engine.status import status

    for line in status(load(options.config), options.results):
        print(line)


def _train_digits(options: argparse.Namespace) -> None:
    _before_torch()
    from lofi.training.train import PLANS, train

    train(PLANS[options.model], options.output, options.work, seed=options.seed, device=options.device)
