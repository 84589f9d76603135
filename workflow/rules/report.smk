"""The tables to one HTML page, and beside it the changed answers that the page loads when a reader asks for them.

REQUIRED: results/tables, and the questions and images that the page shows as examples.
OUTPUTS: reports/index.html, reports/index_files
"""


rule report:
    """Draw the figures and fill the page."""
    input:
        tables=TABLES,
        data=expand(
            [DOCS, IMAGES], dataset=[dataset.name for dataset in SWEEP.datasets]
        ),
    output:
        page="reports/index.html",
        samples=directory("reports/index_files"),
    log:
        "logs/report.log",
    conda:
        "../../envs/lofi.yaml"
    resources:
        mem_mb=memory("report"),
        runtime=minutes("report"),
    params:
        sweep=SWEEP.to_json(),
    shell:
        "exec lofi report --config results/sweep.json --output {output.page} > {log} 2>&1"
