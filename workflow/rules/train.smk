"""The embedded model, trained again from its seed. No other rule needs it: the trained model comes with lofi.

OUTPUTS: results/training/digits-llava/model.safetensors and the files beside it
"""


# The work folder is no output, which Snakemake would delete: a killed training goes on from its last checkpoint.
rule train_digits:
    """Train the digits model."""
    output:
        "results/training/digits-llava/model.safetensors",
    log:
        "logs/train_digits.log",
    conda:
        "../../envs/lofi.yaml"
    threads: 8
    resources:
        mem_mb=8000,
        runtime=720,
    shell:
        "lofi train-digits --output results/training/digits-llava --work results/training/checkpoints > {log} 2>&1"
