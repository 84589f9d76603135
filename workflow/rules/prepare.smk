"""Each dataset as two Parquet files. Nothing later reads a dataset from elsewhere.

REQUIRED: for a dataset of a hub, a network.
OUTPUTS: results/data/{dataset}/docs.parquet and images.parquet
"""


rule prepare:
    """Questions and images of one dataset, by hash."""
    output:
        docs=DOCS,
        images=IMAGES,
    log:
        log_path("prepare", "dataset"),
    priority: 2
    conda:
        "../../envs/lofi.yaml"
    params:
        planned=planned_dataset,
    shell:
        "lofi prepare --config results/sweep.json --dataset {wildcards.dataset} > {log} 2>&1"
