"""All cells to the tables that the report shows. No model, no GPU, no network from here on.

REQUIRED: the files of all cells, and those of self-agreement where it is measured.
OUTPUTS: results/tables/*.parquet, results/audit.duckdb
"""

from lofi.data.registry import get_card

TABLES = expand(
    "results/tables/{table}.parquet",
    table=[
        "cells",
        "measures",
        "margins",
        "calibration",
        "averages",
        "metrics",
        "spectra",
        "correlations",
        "sample_shifts",
        "beyond_margin",
        "forecast",
        "forecast_cells",
        "methods",
        "comparisons",
        "ranks",
        "flips",
        "categories",
        "stability",
        "risks",
        "certificates",
        "timings",
        "runs",
    ],
)


rule aggregate:
    """Agreement, flips, figures of datasets, spectra and their correlation, with intervals."""
    input:
        cells=every_cell(),
        stability=every_stability(),
    output:
        tables=TABLES,
        database="results/audit.duckdb",
    log:
        "logs/aggregate.log",
    conda:
        "../../envs/lofi.yaml"
    threads: 4
    resources:
        mem_mb=memory("aggregate"),
        runtime=minutes("aggregate"),
    params:
        metrics=[get_card(each.card_name).metrics for each in SWEEP.datasets],
    shell:
        "exec lofi aggregate --config results/sweep.json > {log} 2>&1"
