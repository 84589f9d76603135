"""Benchmarks as ratios: each item is timed next to its reference, in turns, in the same run.

`make bench` runs all, `make bench ITEMS="ipr_vs_svd"` some; these replace what bench/results.json holds of them.
"""

import argparse
import importlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from item import CLOCK, Item

from lofi.provenance import commit, machine, versions

RESULTS = Path(__file__).parent / "results.json"

# item -> its module, whose function of the item's name measures it
ITEMS = {
    "demo_vs_process_per_cell": "demo",
    "engine_q18_vs_sample": "engine",
    "engine_q18_vs_batch": "engine",
    "engine_q1_vs_sample": "engine",
    "engine_q1_vs_batch": "engine",
    "engine_flops_over_minimum": "engine",
    "engine_matmul_share": "engine",
    "lofi_share_of_prefill": "engine",
    "ipr_vs_svd": "linear",
    "leverage_vs_svd": "linear",
    "loader_vs_decode": "loading",
    "loader_vs_decode_gpu": "loading",
    "loader_vs_decode_large": "loading",
    "loader_vs_processor": "loading",
    "resampling_vs_gathering": "resampling",
    "aggregate_1e6_vs_pandas": "store",
    "aggregate_growth_1e6_to_1e7": "store",
    "plan_10k_cells": "workflow",
    "noop_rerun_1k_cells": "workflow",
    "report_scale": "report_scale",
    "report_2k_cells": "report_scale",
    "gpu_lofi_share_of_prefill": "gpu",
    "gpu_products_vs_eigh": "gpu",
    "gpu_split_vs_mask": "gpu",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(ITEMS)}; default: all")
    names = parser.parse_args().items or [name for name in ITEMS if can_run(name)]
    if unknown := sorted(set(names) - ITEMS.keys()):
        parser.error(f"unknown item {unknown[0]!r}; choose from {', '.join(ITEMS)}")
    if lacking := [name for name in names if not can_run(name)]:
        parser.error(f"{lacking[0]} needs a GPU, and CUDA finds none here")
    print(", ".join(f"{name} {value}" for name, value in {**here(), "clock": CLOCK, **versions()}.items()))
    print(HEADER, flush=True)
    for name in names:
        item: Item = getattr(importlib.import_module(ITEMS[name]), name)()
        print(line(item), flush=True)
        write(item)


HEADER = f"{'item':28} {'median':>9} {'spread':>20} {'target':>10} {'met':>4}  reference"


def can_run(name: str) -> bool:
    """Whether this machine has what an item needs."""
    return ITEMS[name] != "gpu" or torch.cuda.is_available()


def here() -> dict[str, Any]:
    """The machine that measures."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**machine(), "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(), "gpu": gpu}


def line(item: Item) -> str:
    low, high = item.spread
    met = {True: "yes", False: "no", None: ""}[item.met]
    value, spread = f"{item.value:.3g} {item.unit}".strip(), f"[{low:.3g}, {high:.3g}]"
    return f"{item.name:28} {value:>9} {spread:>20} {item.target or ''!s:>10} {met:>4}  {item.reference}"


def write(item: Item) -> None:
    """Put an item into the results, in the order of ITEMS; one that was measured before is replaced."""
    stored: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = {each["name"]: each for each in stored if each["name"] in ITEMS}
    wanted = {"target": item.target and item.target.value, "at_most": item.target and item.target.at_most}
    where = {"clock": CLOCK, "machine": here(), "versions": versions(), "commit": commit()}
    known[item.name] = {**asdict(item), **wanted, "met": item.met, **where}
    items = [known[name] for name in ITEMS if name in known]
    RESULTS.write_text(json.dumps(items, indent=1) + "\n")


if __name__ == "__main__":
    main()
