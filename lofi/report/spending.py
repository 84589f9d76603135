"""What each combination of method and keep spends and keeps: the queries behind the frontier."""

from lofi.report.how import How
from lofi.report.words import count
from lofi.tables import Row

OF_PAIRS = (
    "stats/cells.sql",
    "stats/timings.sql",
    "stats/methods.sql",
    "stats/intervals.py:of_methods",
    "report/spending.py:by_pair",
)
OF_MODELS = (*OF_PAIRS, "report/spending.py:by_model")
# What each row of `means` is beaten by: the end of `by_model`.
BEATEN = """treated AS (
    SELECT * FROM means
    WHERE method NOT IN ('full', 'floor') AND (share < 1 OR weights <> 'none')
        AND agreement IS NOT NULL AND share IS NOT NULL
),
beaten AS (
    SELECT
        this.model, this.method, this.keep, count(other.method) AS n_rivals,
        count_if(other.agreement_high >= this.agreement_low) AS n_level,
        first({method: other.method, keep: other.keep} ORDER BY other.agreement DESC, other.share, other.method)
            FILTER (other.agreement > this.agreement
                OR (other.agreement = this.agreement AND other.share <= this.share - this.token)) AS by_this
    FROM treated AS this LEFT JOIN treated AS other
        ON other.model = this.model AND other.weights = this.weights
        AND (other.method, other.keep) <> (this.method, this.keep)
        AND other.share < this.share + this.token
    GROUP BY this.model, this.method, this.keep
)
SELECT
    means.*, n_rivals, n_level, n_rivals IS NOT NULL AS treated,
    by_this.method AS beaten_by, by_this.keep AS beaten_at,
    n_rivals IS NOT NULL AND by_this IS NULL AS on_frontier
FROM means LEFT JOIN beaten USING (model, method, keep)
ORDER BY model, method, share DESC, keep"""


def _mean(column: str, name: str, order: str) -> str:
    """A mean that is null where one of its parts is: a mean over the others would be no comparison."""
    return f"CASE WHEN count({column}) = count(*) THEN avg({column} ORDER BY {order}) END AS {name}"


def by_pair() -> str:
    """One row per (model, dataset, method, keep), over all seeds.

    `share` is the visual tokens that the LLM reads, the mean over its layers, as a share of the full model's; `token`
    is what one token is of them. `flops` are the operations of the decoder's prefill over the full model's.
    """
    tokens = "coalesce(layer_mean_tokens, kept_tokens)"
    return f"""
WITH full_cells AS (
    SELECT model, dataset, prefill_flops AS full_flops FROM cells WHERE method = 'full'
)
SELECT
    model, dataset, method, weights, keep, n_seeds, methods.n,
    methods.agreement, methods.agreement_low, methods.agreement_high,
    methods.accuracy, methods.accuracy_low, methods.accuracy_high,
    {_mean("cells.relative_accuracy", "relative_accuracy", "seed")},
    {_mean("keep_ratio", "keep_ratio", "seed")},
    {_mean(tokens, "tokens", "seed")},
    {_mean(f"{tokens} / full_tokens", "share", "seed")},
    {_mean("1 / full_tokens", "token", "seed")},
    {_mean("prefill_flops / full_flops", "flops", "seed")},
    {_mean("t_prefill_ms", "prefill_ms", "seed")}
FROM methods
JOIN cells USING (model, dataset, method, weights, keep)
LEFT JOIN timings USING (model, dataset, method, keep, seed)
LEFT JOIN full_cells USING (model, dataset)
GROUP BY ALL
ORDER BY model, dataset, method, keep""".strip()


def by_model() -> str:
    """One row per (model, method, keep) that ran on every dataset of the model: means, and what beats each.

    Half-widths of intervals add up in quadrature over datasets, which have images of their own. Others are on the same
    model and weights and read less than one token more; `n_level` of these have an interval that reaches this one's.
    """
    rates = ",\n        ".join(_rate(column) for column in ("agreement", "accuracy"))
    means = ",\n        ".join(
        _mean(column, column, "dataset")
        for column in ("relative_accuracy", "keep_ratio", "tokens", "share", "token", "flops", "prefill_ms")
    )
    return f"""
WITH pairs AS (
{by_pair()}
),
sizes AS (SELECT model, count(DISTINCT dataset) AS n_of_model FROM cells GROUP BY model),
means AS (
    SELECT
        model, method, weights, keep, count(*) AS n_datasets, sum(n)::BIGINT AS n,
        {rates},
        {means}
    FROM pairs JOIN sizes USING (model)
    GROUP BY model, method, weights, keep, n_of_model
    HAVING count(*) = n_of_model
),
{BEATEN}""".strip()


def _rate(column: str) -> str:
    bounds = [
        f"CASE WHEN count({column}_{end}) = count(*) THEN avg({column} ORDER BY dataset)"
        f" {sign} sqrt(sum(({column}_{end} - {column}) ** 2 ORDER BY dataset)) / count(*) END AS {column}_{end}"
        for end, sign in (("low", "-"), ("high", "+"))
    ]
    return ",\n        ".join([_mean(column, column, "dataset"), *bounds])


def on_frontier(rows: list[Row]) -> list[Row]:
    """Those rows of `by_model` that none beats, fewest tokens first."""
    return sorted((row for row in rows if row["on_frontier"]), key=lambda row: float(row["share"]))


def how(query: str, made_by: tuple[str, ...], rows: list[Row]) -> How:
    """Where such rows come from."""
    sizes = sorted({row["n"] for row in rows}) or [0]
    span = count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])} to {count(sizes[-1])}"
    return How(query, made_by, f"n = {span} answers in each of {count(len(rows), 'row')}")
