"""The tables to one self-contained HTML page.

REQUIRED: results/tables, and the questions and images that the page shows as examples.
OUTPUTS: reports/index.html
"""


rule report:
    """Draw the figures and fill the page."""
    input:
        tables=TABLES,
        data=expand(
            [DOCS, IMAGES], dataset=[dataset.name for dataset in SWEEP.datasets]
        ),
    output:
        "reports/index.html",
    log:
        "logs/report.log",
    conda:
        "../../envs/lofi.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        sweep=SWEEP.to_json(),
    shell:
        "exec lofi report --config results/sweep.json --output {output} > {log} 2>&1"
