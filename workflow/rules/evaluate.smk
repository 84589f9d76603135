"""Every cell: one Parquet file of samples each. `pack` in the config says how many of them one job writes.

REQUIRED: docs.parquet and images.parquet of the dataset.
OUTPUTS: results/samples/model=.../dataset=.../method=.../keep=.../seed=.../shard-....parquet, results/reference/...

References run first, so that no long evaluation starts late for want of one. One thread a job, unless a model's
`threads` say otherwise: on CPUs, jobs side by side are faster than threads inside one. A profile gives GPU jobs more
cores, to open images with.

`exec`, because a shell between Snakemake and lofi would die of the SIGTERM that SLURM sends before it takes a node away:
the job would be over at once, and lofi's time to finish its part with it.
"""


rule reference:
    """The full model, its noise floor, and the hidden states that all other cells are compared with."""
    input:
        docs=DOCS,
        images=IMAGES,
    output:
        full=cell_path(FULL, KEEP_ALL, 0),
        floor=cell_path(FLOOR, KEEP_ALL, 0),
        states=STATES,
        states_images=STATES_IMAGES,
    log:
        log_path("reference", "model", "dataset", "shard"),
    priority: 1
    conda:
        "../../envs/lofi.yaml"
    threads: compute_threads
    resources:
        mem_mb=memory("reference"),
        runtime=minutes("reference"),
    params:
        planned=planned_reference,
    shell:
        "exec lofi reference --config results/sweep.json --model {wildcards.model} --dataset {wildcards.dataset}"
        " --shard {wildcards.shard} > {log} 2>&1"


rule evaluate:
    """All cells of one job. The cell cache keeps what a killed job has finished, and what has not changed."""
    input:
        docs=DOCS,
        images=IMAGES,
        states=STATES,
        states_images=STATES_IMAGES,
    output:
        [cell_path(**packed) for packed in PACKED],
    log:
        log_path("evaluate", "model", "dataset", *UNPACKED, "shard"),
    conda:
        "../../envs/lofi.yaml"
    threads: compute_threads
    resources:
        mem_mb=memory("evaluate"),
        runtime=minutes("evaluate"),
    params:
        planned=planned_evaluation,
        options=unpacked_options,
    shell:
        "exec lofi evaluate --config results/sweep.json --model {wildcards.model} --dataset {wildcards.dataset}"
        " --shard {wildcards.shard} {params.options} > {log} 2>&1"
