"""The table of a paper: methods by keeps, as LaTeX with booktabs."""

from collections.abc import Sequence

from lofi.cell import FLOOR, KEEP_ALL, OWN_COUNT
from lofi.report.audit import Audit, groups, over_datasets
from lofi.report.words import MINUS, NONE, SPACE, count, interval, keep_name, listing, percent
from lofi.tables import Row

KEEPS_WIDE = 4  # keeps beside each other in one tabular
ESCAPES = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # behind a line's end a bracket would be read as its height
    "]": "{]}",
    SPACE: "~",
    MINUS: "$-$",
    NONE: "--",
}


def escape(text: str) -> str:
    """Text as LaTeX prints it, whatever it holds."""
    return "".join(ESCAPES.get(letter, letter) for letter in " ".join(text.split(" ")))


def agreement_table(audit: Audit) -> str:
    """For each model a table: a row per method, and for each keep agreement with its interval and accuracy kept."""
    keeps = [keep for keep in (KEEP_ALL, *audit.keeps, OWN_COUNT) if any(means(audit, None, keep))]
    parts = [keeps[start : start + KEEPS_WIDE] for start in range(0, len(keeps), KEEPS_WIDE)]
    tables = [_table(audit, model, part) for model in audit.models for part in parts]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(tables or ["% no method ran beside full\n"])


def means(audit: Audit, model: str | None, keep: str) -> list[Row]:
    """Of each method at one keep, the mean over all datasets of a model (None: of any); none where one lacks it."""
    here = [row for row in audit.points if row["keep"] == keep and row["method"] in audit.methods]
    found = [group for group in groups(here, ("model", "method")) if len(group) == _datasets(audit, group[0]["model"])]
    rows = [over_datasets(group, ("model", "method", "keep")) for group in found]
    return [row for row in rows if model in (None, row["model"])]


def _datasets(audit: Audit, model: str) -> int:
    return sum(name == model for name, _ in audit.pairs)


def _table(audit: Audit, model: str, keeps: Sequence[str]) -> str:
    """One tabular of a few keeps."""
    at = {(row["method"], keep): row for keep in keeps for row in means(audit, model, keep)}
    methods = [method for method in audit.methods if any((method, keep) in at for keep in keeps)]
    heads = " & ".join(rf"\multicolumn{{2}}{{c}}{{{escape(keep_name(keep))}}}" for keep in keeps)
    rules = " ".join(rf"\cmidrule(lr){{{2 + 2 * i}-{3 + 2 * i}}}" for i in range(len(keeps)))
    lines = [_line(audit.label(method), [at.get((method, keep)) for keep in keeps]) for method in methods]
    return "\n".join(
        [
            r"\begin{table*}",
            r"  \centering",
            r"  \footnotesize",
            rf"  \caption{{{_caption(audit, model)}}}",
            rf"  \begin{{tabular}}{{l{'rr' * len(keeps)}r}}",
            r"    \toprule",
            rf"    & {heads} & \\",
            f"    {rules}",
            "    method" + r" & agreement & acc.\ kept" * len(keeps) + r" & $n$ \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _line(name: str, rows: Sequence[Row | None]) -> str:
    """A method's row; n is that of each of its means."""
    sizes = [row["n"] for row in rows if row is not None]
    low, high = count(min(sizes)), count(max(sizes))
    n = escape(low) if low == high else f"{escape(low)}--{escape(high)}"
    return " & ".join([escape(name), *map(_cells, rows), n]) + r" \\"


def _cells(row: Row | None) -> str:
    """Agreement with its interval, and accuracy kept; dashes where there is no mean."""
    if row is None:
        return "-- & --"
    agreement = _percent(row.get("agreement"))
    if row.get("agreement_low") is not None and row.get("agreement_high") is not None:
        agreement += rf" {{\scriptsize {escape(interval(row['agreement_low'], row['agreement_high']))}}}"
    return f"{agreement} & {_percent(row.get('relative_accuracy'))}"


def _percent(value: float | None) -> str:
    """A share in percent, without the sign: the caption has it."""
    return escape(percent(value).removesuffix(f"{SPACE}%"))


def _caption(audit: Audit, model: str) -> str:
    datasets = [dataset for name, dataset in audit.pairs if name == model]
    named = listing(datasets) if len(datasets) < 6 else count(len(datasets), "dataset")
    floors = [row for row in audit.points if (row["model"], row["method"]) == (model, FLOOR)]
    floor = "The sweep has no noise floor."
    if floors and all(row.get("agreement") is not None for row in floors):
        mean = over_datasets(floors, ("model",))
        floor = (
            f"Run twice, the full model agrees with itself on {percent(mean['agreement'])} (n = {count(mean['n'])})."
        )
    return escape(
        f"{model}: answers that stay those of the full model (agreement, with a 95 % interval from a bootstrap over "
        f"images) and accuracy as a share of the full model's, in percent, mean over {named}; n answers at each keep, "
        f"those of all seeds added up. {floor} A dash: not run on every dataset, or without grades."
    )
