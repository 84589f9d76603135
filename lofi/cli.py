"""The command line: one sub-command per stage, and a few that look. `lofi.commands` and `lofi.looks` run them."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lofi import __version__, commands, looks
from lofi.credentials import refuse_credentials
from lofi.errors import UserError, of_files
from lofi.grace import EXIT_TERMINATED, Terminated, ending_in_order

EXIT_USER_ERROR = 2
Command = Callable[[argparse.Namespace], int | None]  # returns the exit code where that is not 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        for number, text in enumerate(given, start=1):  # before anything that would repeat it
            refuse_credentials(text, f"argument {number}")
    except UserError as error:
        print(f"lofi: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    options, unread = _parser().parse_known_args(given)
    if unread:
        options.parser.error(f"unrecognized arguments: {' '.join(unread)}")
    options.given = given  # a report says how it was made
    command: Command = options.run
    try:
        with ending_in_order():
            return command(options) or 0
    except UserError as error:
        return _refused(options.command, error)
    except Terminated:
        said = "ended by SIGTERM; what is finished is kept, and the same command goes on from there"
        print(f"lofi {options.command}: {said}", file=sys.stderr)
        return EXIT_TERMINATED
    except BrokenPipeError:  # `lofi query … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if (refusal := of_files(error)) is None:
            raise
        return _refused(options.command, refusal)
    return 0


def _refused(command: str, error: UserError) -> int:
    print(f"lofi {command}: {_one_line(str(error))}", file=sys.stderr)
    return EXIT_USER_ERROR


def _one_line(text: str) -> str:
    """Line breaks made visible: a path or a value may hold one."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        fix = f"`{self.prog} --help` says what it takes"
        self.exit(EXIT_USER_ERROR, f"{self.prog}: {_one_line(message)}; {fix}\n")


class _Commands:
    """The sub-commands as they are added: a name, what it runs, one sentence."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, name: str, run: Command, sentence: str) -> argparse.ArgumentParser:
        command = self._commands.add_parser(name, help=sentence, description=sentence)
        command.set_defaults(run=run, parser=command)
        return command

    def add_on_sweep(self, name: str, run: Command, sentence: str) -> argparse.ArgumentParser:
        command = self.add(name, run, sentence)
        command.add_argument(
            "--config", type=Path, default=Path("config.yaml"), help="the sweep (default: config.yaml)"
        )
        command.add_argument("--results", type=Path, default=Path("results"), help="default: results")
        return command


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lofi", description="Does a vision-language model still give the same answers with fewer visual tokens?"
    )
    parser.add_argument("--version", action="version", version=f"lofi {__version__}")
    subparsers = _Commands(parser)
    _add_stages(subparsers)
    _add_looks(subparsers)
    _add_bench_data(subparsers)
    return parser


def _add_stages(to: _Commands) -> None:
    """The stages in the order in which data flows."""
    sentence = "download or generate one dataset, or download one model; the only step that needs the network"
    prepare = to.add_on_sweep("prepare", commands.prepare, sentence)
    what = prepare.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset")
    what.add_argument("--model")
    prepare.add_argument("--without-weights", action="store_true", help="of the model: what `lofi plan` reads, no more")

    reference = to.add_on_sweep(
        "reference", commands.reference, "run the full model and the noise floor on one dataset"
    )
    evaluate = to.add_on_sweep("evaluate", commands.evaluate, "run every other cell of one model and dataset")
    for stage in (reference, evaluate):
        stage.add_argument("--model", required=True)
        stage.add_argument("--dataset", required=True)
        stage.add_argument("--shard", type=int, default=0)
    evaluate.add_argument("--method", help="only this method")
    evaluate.add_argument("--keep", help="only this keep, spelled as in the paths: 0.2500, or a count")
    evaluate.add_argument("--seed", type=int, help="only this seed")

    sentence = "compare what each method keeps with what it keeps under rounded features, on one model and dataset"
    stability = to.add_on_sweep("stability", commands.stability, sentence)
    stability.add_argument("--model", required=True)
    stability.add_argument("--dataset", required=True)
    stability.set_defaults(shard=0)

    rescored = to.add_on_sweep("rescore", commands.rescore, "grade stored answers again, without a model")
    rescored.add_argument("--dataset", help="only this one")
    rescored.add_argument("--scorer", help="default: what the config says, else the dataset's card")

    to.add_on_sweep("aggregate", commands.aggregate, "turn all cells into tables")

    report = to.add_on_sweep("report", commands.report, "render the HTML report from the tables")
    report.add_argument("--output", type=Path, default=Path("reports/index.html"))
    report.add_argument("--date", help="the date to print (default: today)")

    sentence = "write the report's figures as SVG, PDF and CSV, and a LaTeX table, for a paper"
    figures = to.add_on_sweep("figures", commands.figures, sentence)
    figures.add_argument("--output", type=Path, default=Path("reports/figures"), help="default: reports/figures")
    figures.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these, such as fig-answer")


def _add_check(to: _Commands) -> None:
    """Two uses: a config before the sweep, its results after it."""
    check = to.add_on_sweep(
        "check", looks.check, "check a config; with --reference, hold the results of a sweep against limits"
    )
    check.description = (
        "Without --reference: check a config and say how many cells it asks for. With --reference: hold every reduced "
        "cell in the tables against the limits; exit code 0 if all pass, 1 if any fails, 2 if nothing could be checked."
    )
    gate = check.add_argument_group("results against limits")
    gate.add_argument("--reference", help="what cells are compared with: full")
    gate.add_argument("--max-flip-rate", type=float, metavar="SHARE", help="right to wrong, or wrong to right")
    gate.add_argument("--min-agreement", type=float, metavar="SHARE", help="the same answer")
    gate.add_argument("--max-negative-flips", type=float, metavar="SHARE", help="right to wrong")
    gate.add_argument("--method", nargs="+", default=[], help="only these (default: all but full and floor)")
    gate.add_argument("--keep", nargs="+", default=[], help="only these, spelled as in the paths: 0.2500, or a count")
    gate.add_argument(
        "--confident", action="store_true", help="judge the one-sided 95 %% bound in place of the measured rate"
    )
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    gate.add_argument("--json", type=Path, metavar="FILE", help="write JSON")


def _add_certify(to: _Commands) -> None:
    sentence = "the smallest keep of each method that is shown to stay below a rate of negative flips"
    certify = to.add("certify", looks.certify, sentence)
    risk = certify.add_mutually_exclusive_group()
    risk.add_argument("--max-negative-flips", type=float, metavar="SHARE", help="right to wrong; default: 0.02")
    risk.add_argument("--max-divergence", type=float, metavar="SHARE", help="another answer, in place of that")
    certify.add_argument("--confidence", type=float, default=0.95, help="one-sided; default: 0.95")
    certify.add_argument("--format", choices=("table", "csv", "json"), default="table")
    certify.add_argument("--results", type=Path, default=Path("results"))


def _add_recover(to: _Commands) -> None:
    sentence = "put a folder in order after its Snakemake was killed: its jobs, its lock, what is left to run"
    recover = to.add("recover", commands.recover, sentence)
    recover.description = (
        "After a Snakemake was killed: waits for the jobs that it left behind, on SLURM or on this machine, or cancels "
        "them; notes what they finished; unlocks the folder; and says what is left to run. Nothing that is finished is "
        "removed, and nothing is started. Exit code 0 if the folder is in order, 2 if not, for example because a "
        "Snakemake is alive in it."
    )
    jobs = recover.add_mutually_exclusive_group()
    jobs.add_argument("--wait", dest="cancel", action="store_false", default=False, help="for the jobs (the default)")
    jobs.add_argument("--cancel", action="store_true", help="the jobs; parts that they finished stay in the cache")
    recover.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help="of the run; default: this one")
    recover.add_argument("--profile", help="of Snakemake; default: the one that the run was started with")
    recover.add_argument("--dead-host", metavar="HOST", help="where the run was started, and none is alive any more")


def _add_bench_data(to: _Commands) -> None:
    sentence = "write a made-up sweep of any size, to see what `lofi aggregate` takes at that size"
    made = to.add("bench-data", commands.bench_data, sentence)
    made.add_argument("folder", type=Path, metavar="FOLDER", help="for the samples and sweep.json, their config")
    for axis, default in (("models", 4), ("datasets", 10), ("methods", 10), ("keeps", 5), ("samples", 5000)):
        each = " of each cell" if axis == "samples" else ""
        made.add_argument(
            f"--{axis}", type=int, default=default, metavar="N", help=f"how many{each}; default: {default}"
        )


def _add_reproduce(to: _Commands) -> None:
    sentence = "say what of a report's manifest is another here, and how the report is made again"
    reproduce = to.add("reproduce", looks.reproduce, sentence)
    reproduce.description = (
        "Compares the code, packages, models, scorers and dataset cards of a report with those that are here; with "
        "--results, those of a finished run, and its tables byte by byte. Exit code 0 if nothing differs, 1 if "
        "anything does, 2 if nothing could be compared."
    )
    reproduce.add_argument("manifest", type=Path, help="manifest.json, in the folder beside a report")
    reproduce.add_argument("--results", type=Path, help="of a run that is to be compared")
    reproduce.add_argument("--write-config", type=Path, metavar="FILE", help="write the config of the report's sweep")


def _add_looks(to: _Commands) -> None:
    """Commands beside the flow."""
    sentence = "what a sweep will cost before it runs: cells, answers, jobs, hours and bytes"
    plan = to.add("plan", commands.plan, sentence)
    plan.add_argument("sweep", nargs="?", type=Path, default=Path("config.yaml"), help="default: config.yaml")
    plan.add_argument("--results", type=Path, default=Path("results"), help="whose timings count; default: results")
    plan.add_argument(
        "--tflops", type=float, help="what the device sustains, in place of stored timings (else 30 %% of an A100)"
    )

    _add_check(to)
    _add_certify(to)
    to.add_on_sweep("status", looks.status, "how far a sweep is, cell by cell")
    _add_recover(to)
    _add_reproduce(to)

    tables = (
        "cells, measures, margins, calibration, averages, metrics, spectra, correlations, sample_shifts, "
        "beyond_margin, forecast, forecast_cells, methods, comparisons, ranks, flips, categories, stability, risks, "
        "certificates, timings, runs, samples"
    )
    query = to.add("query", looks.query, f"run SQL over the tables {tables}")
    query.add_argument("sql", help='for example "SELECT method, keep, agreement FROM cells"')
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    query.add_argument("--results", type=Path, default=Path("results"))

    data = to.add("data", looks.data_check, "look at a dataset before it is used").add_subparsers(required=True)
    sentence = "read every row and image of a dataset, and say what is wrong with it, row by row"
    check = data.add_parser("check", help=sentence, description=sentence)
    check.add_argument("dataset", help="the name of a dataset, or the path of a card such as my.yaml")
    check.add_argument("--source", help="instead of the card's: a folder, a table, or a hub id")
    check.add_argument("--prompt-style", help="default: the card's first")
    check.add_argument("--limit", type=int, default=0, help="so many images, each with all of its questions")
    check.set_defaults(command="data check", parser=check)

    sentence = "train an embedded model again, from a seed; goes on where it was killed"
    train = to.add("train-digits", commands.train_digits, sentence)
    train.add_argument("--model", choices=("digits-llava", "digits-qwen"), default="digits-llava")
    train.add_argument("--output", type=Path, required=True)
    train.add_argument("--work", type=Path, required=True, help="checkpoints")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto")
