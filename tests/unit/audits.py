"""Audits made by hand: a few rows of the cells table, as the report reads it."""

from lofi.report.audit import Audit, ordered


def cell(method, keep="0.2500", agreement=0.9, accuracy=0.7, *, half=0.02, dataset="d", **more):
    """One row of the cells table, with intervals of `half` to both sides (None: without)."""
    bounds = {}
    for name, value in (("agreement", agreement), ("accuracy", accuracy)):
        known = half is not None and value is not None
        bounds |= {f"{name}_low": value - half if known else None, f"{name}_high": value + half if known else None}
    ratio = float(keep) if "." in keep else int(keep) / 144
    return {
        "model": "m", "dataset": dataset, "method": method, "keep": keep, "seed": 0, "keep_ratio": ratio,
        "n": 500, "n_errors": 0, "agreement": agreement, "accuracy": accuracy, **bounds,
        "relative_accuracy": None if accuracy is None else accuracy / 0.8,
        "kept_tokens": ratio * 144, "full_tokens": 144.0, "layer_mean_tokens": ratio * 144, "unparsed": 0.0, **more,
    }  # fmt: skip


def audit_of(*cells, full=0.8, floor=1.0, correlations=(), comparisons=(), random="random", datasets=("d",)):
    rows = list(cells)
    for dataset in datasets:
        rows.append(cell("full", "1.0000", 1.0, full, dataset=dataset))
        if floor is not None:
            rows.append(cell("floor", "1.0000", floor, full, dataset=dataset))
    methods = ordered((), rows, "method", lambda name: name not in ("full", "floor"))
    return Audit(
        rows, list(correlations), list(comparisons), [], ("m",), datasets, methods,
        random if random in methods else None,
    )  # fmt: skip


def correlation(scope="within_model_dataset_keep", **more):
    row = {
        "scope": scope, "delta": "dlog", "statistic": "ipr_u", "site": "projector", "tokens": "visual", "centred": True,
        "primary": True, "pearson": -0.5, "low": -0.7, "high": -0.2, "spearman": -0.4, "p": 0.01, "p_adjusted": 0.01,
        "n_cells": 24, "n_groups": 6, "resampled": "groups", "note": None,
    }  # fmt: skip
    return row | more
