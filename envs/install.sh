#!/usr/bin/env bash
# Installs lofi and all that it runs with for a Python: `bash envs/install.sh .venv/bin/python`, from the root.
# Every file must have a hash that its lock names. Nothing is resolved, so nothing comes along that no lock names;
# `pip check` then says whether anything is missing.
set -euo pipefail
python=$1

from_lock() {
  "$python" -m pip install --quiet --require-hashes --no-deps --no-build-isolation --requirement "envs/$1.lock"
}

from_lock build
from_lock torch-cpu 2>/dev/null || from_lock torch
from_lock requirements
"$python" -m pip install --quiet --no-deps --no-build-isolation --editable .
"$python" -m pip check
