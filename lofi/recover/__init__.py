"""After a killed Snakemake: its jobs, its lock, and what is left to run."""
