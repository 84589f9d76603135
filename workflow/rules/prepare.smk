"""The resolved config, and each dataset as two Parquet files. Nothing later reads a dataset from elsewhere.

REQUIRED: the sweep; for a dataset of a hub, a network.
OUTPUTS: results/sweep.json, results/data/{dataset}/docs.parquet and images.parquet
"""


# Consumers take the plan as ancient(): another method in the sweep does not make finished cells old.
rule plan:
    """Write the sweep as it is after --configfile and --config, with every default filled in."""
    output:
        PLAN,
    log:
        "logs/plan.log",
    conda:
        "../../envs/lofi.yaml"
    params:
        sweep=SWEEP.to_json(),
    shell:
        "lofi plan --json {params.sweep:q} --output {output} > {log} 2>&1"


rule prepare:
    """Questions and images of one dataset, by hash."""
    input:
        sweep=ancient(PLAN),
    output:
        docs=DOCS,
        images=IMAGES,
    log:
        log_path("prepare", "dataset"),
    conda:
        "../../envs/lofi.yaml"
    params:
        settings=dataset_settings,
    shell:
        "lofi prepare --config {input.sweep} --dataset {wildcards.dataset} > {log} 2>&1"
