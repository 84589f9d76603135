#!/usr/bin/env bash
# Runs inside the new conda environment, with the repository root as working directory.
set -euo pipefail

if [ ! -f envs/requirements.lock ]; then
  echo "start snakemake --sdm conda in the root of the lofi repository: envs/requirements.lock is not below $PWD" >&2
  exit 1
fi
python -m pip install --requirement envs/requirements.lock
python -m pip install --no-deps --editable .
