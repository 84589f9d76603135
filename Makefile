# Everything happens inside this repository: a .venv, and caches below it.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3 2>/dev/null))
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all

export PATH := $(CURDIR)/$(BIN):$(PATH)
export XDG_CACHE_HOME := $(CURDIR)/.cache
export HF_HOME := $(CURDIR)/.cache/huggingface
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# two test processes on two cores: threads inside them would only get in each other's way
test test-all: export OMP_NUM_THREADS := 1

.PHONY: help setup demo test test-all bench lint docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## a .venv with the pinned packages

$(VENV)/.ready: $(wildcard envs/*.lock) envs/install.sh pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("lofi needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear $(VENV)
	bash envs/install.sh $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement envs/tests.lock
	@touch $@

demo: setup ## the whole pipeline on the embedded model: ends with reports/index.html
	snakemake --cores $(CORES) --rerun-incomplete --keep-going --scheduler greedy --quiet rules reason host
	@echo "the report: $(CURDIR)/reports/index.html"

test: setup lint ## what CI runs
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: setup lint ## test, and the slow sets
	pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: setup ## ratios against references measured in the same run
	python bench/run.py $(ITEMS)

lint: setup ## ruff, mypy, snakefmt, snakemake --lint
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

docs: setup ## docs/methods.md, families.md, datasets.md and errors.md from registries, cards, docstrings and tests
	python -m lofi.methods.catalogue > docs/methods.md
	python -m lofi.models.catalogue > docs/families.md
	python -m lofi.dataset_pages > docs/datasets.md
	python -m tests.errors.page > docs/errors.md

clean: ## remove results, reports and logs, but not the .venv
	rm -rf results logs benchmarks reports/index.html reports/index_files .snakemake
