"""What each sub-command does that only looks. Heavy imports wait until they are needed."""

from argparse import Namespace
from pathlib import Path

from lofi.errors import UserError


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
    from lofi.request import lines
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
    for line in lines(sweep):
        print(line)


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


def reproduce(options: Namespace) -> int:
    """Say what of a report's manifest is another here; 1 if anything is."""
    from lofi.config import from_dict
    from lofi.reproduce import compare
    from lofi.reproduce.facts import facts_here, facts_of_run
    from lofi.reproduce.manifest import read

    manifest = read(options.manifest)
    try:
        sweep = from_dict(manifest.config)
    except UserError as error:
        raise UserError(f"{options.manifest}: config: {error}") from None
    now = facts_of_run(sweep, options.results) if options.results else facts_here(sweep)
    found = compare.differences(manifest.facts, now)
    if options.write_config:
        compare.write_config(manifest, options.write_config)
    for line in compare.lines(manifest, found, now, options.write_config):
        print(line)
    return 1 if found else 0


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); give another path") from error
