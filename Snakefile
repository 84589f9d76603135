"""The sweep of config.yaml, from the data to the report. This file only wires; the rules are in workflow/rules.

snakemake -c2                                          the embedded demo
snakemake -c2 --configfile workflow/sweeps/smoke.yaml  another sweep
snakemake --profile slurm                              on a cluster
snakemake -c2 train_digits                             train the embedded models again
"""

from snakemake.utils import min_version

min_version("9.0")


# Snakemake would merge a --configfile over this one, and so bring the demo's methods into every other sweep.
if not workflow.overwrite_configfiles:

    configfile: Path(workflow.basedir) / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/stability.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/train.smk"


# Not a rule, because its consumers would have to ignore its date with ancient(), and when such a file has to be made
# again, Snakemake 9.27 overlooks every other reason to run them: a new method would wait for a second snakemake.
onstart:
    write_sweep()


# `prepare` runs where snakemake runs: compute nodes often have no network.
localrules:
    all,
    prepare,


# Cells and self-agreement are targets of their own: a report alone would count as up to date after all of them failed.
rule all:
    default_target: True
    input:
        "reports/index.html",
        every_cell(),
        every_stability(),
