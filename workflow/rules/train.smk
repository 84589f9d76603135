"""The embedded models, trained again from their seed. No other rule needs them: the trained models come with lofi.

OUTPUTS: results/training/{digits-llava,digits-qwen}/model.safetensors and the files beside them
"""

TRAINED = "results/training/{student}/model.safetensors"


rule train_digits:
    """Train every embedded model."""
    input:
        expand(TRAINED, student=["digits-llava", "digits-qwen"]),


# The work folder is no output, which Snakemake would delete: a killed training goes on from its last checkpoint.
rule train_student:
    """Train one embedded model."""
    output:
        TRAINED,
    log:
        "logs/train_digits/{student}.log",
    conda:
        "../../envs/lofi.yaml"
    threads: 8
    resources:
        mem_mb=8000,
        runtime=720,
    shell:
        "exec lofi train-digits --model {wildcards.student} --output results/training/{wildcards.student}"
        " --work results/training/checkpoints/{wildcards.student} > {log} 2>&1"
