#!/usr/bin/env bash
# Runs inside the new conda environment, with the repository root as working directory.
set -euo pipefail

if [ ! -f envs/install.sh ]; then
  echo "start snakemake --sdm conda in the root of the lofi repository: envs/install.sh is not below $PWD" >&2
  exit 1
fi
bash envs/install.sh python
