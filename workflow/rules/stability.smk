"""What each method keeps under rounded or noised features, against what it keeps under float32 ones.

REQUIRED: docs.parquet and images.parquet of the dataset.
OUTPUTS: results/stability/model=.../dataset=....parquet; none where `stability_images` in the config is 0
"""


rule stability:
    """The self-agreement of every method on the first images of one dataset."""
    input:
        docs=DOCS,
        images=IMAGES,
    output:
        STABILITY,
    log:
        log_path("stability", "model", "dataset"),
    conda:
        "../../envs/lofi.yaml"
    threads: compute_threads
    resources:
        mem_mb=memory("stability"),
        runtime=minutes("stability"),
    params:
        planned=planned_stability,
    shell:
        "exec lofi stability --config results/sweep.json --model {wildcards.model} --dataset {wildcards.dataset}"
        " > {log} 2>&1"
