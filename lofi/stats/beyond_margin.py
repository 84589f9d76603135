"""Tables about single samples: `sample_shifts`, a row per statistic, and `beyond_margin`, about the primary one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from lofi.cell import Cell
from lofi.stats.correlate import BOOTSTRAPS, MIN_BLOCKS
from lofi.stats.gaps import alike
from lofi.stats.multiplicity import benjamini_hochberg
from lofi.stats.resample import Booleans, Floats, Integers, draws_of_blocks, percentile_interval
from lofi.stats.samplewise import (
    Gain,
    auroc,
    gain,
    margin_terms,
    rank_correlation,
    ranks,
    ranks_of_size,
    score_parts,
)
from lofi.stats.shifts import PRIMARY, Shifts
from lofi.stats.stored_spectra import TokenSet

SEED = 0
MIN_CHANGED = 10  # answers of a cell that change, and that stay, before they are told apart
MIN_IMAGES = 10
HALF_WIDTH = float(norm.ppf(0.975))
SAMPLE_SHIFTS = pa.schema(
    [
        *(("site", pa.string()), ("tokens", pa.string()), ("centred", pa.bool_()), ("statistic", pa.string())),
        *(("primary", pa.bool_()), ("n_cells", pa.int64()), ("n_samples", pa.int64())),
        *((name, pa.float64()) for name in ("spearman", "spearman_low", "spearman_high")),
        *(("n_cells_told", pa.int64()), ("n_changed", pa.int64())),
        *((name, pa.float64()) for name in ("auroc", "auroc_low", "auroc_high", "z", "p", "p_adjusted")),
    ]
)
BEYOND_MARGIN = pa.schema(
    [
        *((name, pa.string()) for name in ("scope", "model", "dataset", "method", "keep")),
        ("seed", pa.int32()),
        *((name, pa.int64()) for name in ("n_cells", "n", "n_changed")),
        *((name, pa.float64()) for name in ("auroc_margin", "auroc_both", "gain", "gain_low", "gain_high")),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Told:
    """One cell's numbers for each variable, (variables,); NaN where it has none."""

    n: Floats
    n_changed: Floats  # 0 where too few changed to be told apart
    spearman: Floats
    auroc: Floats
    parts: Floats  # (variables, samples) of the score test; 0 where there is none
    place: Integers  # (samples,) where these are among all that are looked at


def tell(shifts: Shifts) -> Told:
    """Look at every variable of one cell. Those with the same gaps go together: they share ranks and fits.

    A variable that is the same in every sample has no part in the score test: what is left of it is rounding.
    """
    variables, samples = shifts.dlog.shape
    n, n_changed, parts = np.zeros(variables), np.zeros(variables), np.zeros((variables, samples))
    rho, area = np.full(variables, np.nan), np.full(variables, np.nan)
    for rows, columns in alike(_usable(shifts).T):
        whole = len(columns) == variables and rows.all()
        dlog, changed = shifts.dlog if whole else shifts.dlog[np.ix_(columns, rows)], shifts.changed[rows]
        if len(changed) < 2 * MIN_CHANGED:
            continue
        ranked = ranks(dlog)
        n[columns], rho[columns] = len(changed), rank_correlation(ranked, ranks(shifts.kl[rows]))
        if too_few(changed, shifts.image[rows]) is None:
            ranked = ranks_of_size(dlog, ranked)
            n_changed[columns], area[columns] = changed.sum(), auroc(ranked, changed)
            added = score_parts(ranked, changed, margin_terms(shifts.margin[rows]))
            added[np.ptp(ranked, axis=1) == 0] = 0
            if whole:
                parts = added
            else:
                parts[np.ix_(columns, rows)] = added
    return Told(n, n_changed, rho, area, parts, shifts.place)


def too_few(changed: Booleans, image: Integers) -> str | None:
    """Say why changed answers cannot be told from the others, if so."""
    n_changed, n_images = int(changed.sum()), len(np.unique(image))
    if n_changed < MIN_CHANGED or len(changed) - n_changed < MIN_CHANGED:
        return f"{n_changed} of {len(changed)} answers changed; {MIN_CHANGED} must change and {MIN_CHANGED} must stay"
    return None if n_images >= MIN_IMAGES else f"{n_images} images; at least {MIN_IMAGES} are needed"


def _usable(shifts: Shifts) -> Booleans:
    """Mark where a sample has all that is looked at, (variables, samples)."""
    return np.asarray(np.isfinite(shifts.dlog) & (np.isfinite(shifts.kl) & np.isfinite(shifts.margin)))


def sample_shifts(
    variables: Sequence[tuple[TokenSet, str]], told: Sequence[Floats], pairs: Sequence[str], scores: Sequence[Floats]
) -> pa.Table:
    """Means over cells with intervals over (model, dataset), and the score test over all cells and images.

    told: of each cell n, n_changed, spearman and auroc, (4, variables); pairs: its (model, dataset); scores: of each
    dataset, (variables, images).
    """
    if not told:
        return SAMPLE_SHIFTS.empty_table()
    blocks = np.unique(pairs, return_inverse=True)[1]
    n, n_changed, rho, area = np.stack(told, axis=1)
    total = sum(part.sum(axis=1) for part in scores)
    spread = np.sqrt(sum((part**2).sum(axis=1) for part in scores))
    z = np.divide(total, spread, out=np.full(len(variables), np.nan), where=spread > 0)
    p = np.where(np.isfinite(z), 2 * norm.sf(np.abs(z)), np.nan)
    primary = np.array([variable == PRIMARY for variable in variables])
    adjusted = np.where(primary, p, benjamini_hochberg(np.where(primary, np.nan, p)))
    numbers = {
        **{"n_cells": np.isfinite(rho).sum(axis=0), "n_samples": n.sum(axis=0).astype(np.int64)},
        **_mean("spearman", rho, blocks),
        **{"n_cells_told": np.isfinite(area).sum(axis=0), "n_changed": n_changed.sum(axis=0).astype(np.int64)},
        **_mean("auroc", area, blocks),
        **{"z": z, "p": p, "p_adjusted": adjusted},
    }
    named = {
        **{name: [getattr(of, name) for of, _ in variables] for name in ("site", "tokens", "centred")},
        "statistic": [statistic for _, statistic in variables],
        "primary": primary,
    }
    columns = {name: pa.array(values, from_pandas=True) for name, values in {**named, **numbers}.items()}
    return pa.table([columns[field.name].cast(field.type) for field in SAMPLE_SHIFTS], schema=SAMPLE_SHIFTS)


def _mean(name: str, values: Floats, pairs: Integers) -> dict[str, Floats]:
    """The mean over the cells that have a number, and its interval where five pairs can be resampled."""
    present = np.isfinite(values)
    filled, counted = np.where(present, values, 0), present.sum(axis=0)
    mean = np.divide(filled.sum(axis=0), counted, out=np.full(values.shape[1], np.nan), where=counted > 0)
    low = high = np.full(values.shape[1], np.nan)
    if len(np.unique(pairs)) >= MIN_BLOCKS:
        weights = draws_of_blocks(pairs, BOOTSTRAPS, np.random.default_rng(SEED))
        sums, counts = weights @ filled, weights @ present
        low, high = percentile_interval(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True)
class OfCell:
    """What the primary shift adds to the margin in one cell, or why that is not known."""

    cell: Cell
    n: int
    n_changed: int
    gain: Gain | None
    note: str | None


def of_cell(shifts: Shifts, dlog: Floats, n_images: int) -> OfCell:
    """What the primary shift, (samples,), adds in one cell."""
    rows = np.isfinite(dlog) & np.isfinite(shifts.kl) & np.isfinite(shifts.margin)
    changed, image = shifts.changed[rows], shifts.image[rows]
    note = too_few(changed, image)
    found = None
    if note is None:
        ranked = ranks(np.abs(dlog[rows]))
        found = gain(ranked, changed, margin_terms(shifts.margin[rows]), image, n_images)
    return OfCell(shifts.cell, len(changed), int(changed.sum()), found, note)


def beyond_margin(cells: Sequence[OfCell]) -> pa.Table:
    """All of them as a table."""
    return pa.Table.from_pylist(list(_rows(cells)), schema=BEYOND_MARGIN)


def _rows(cells: Sequence[OfCell]) -> Iterator[dict[str, object]]:
    """One row over all cells, one per (model, dataset), one per cell."""
    if cells:
        yield {"scope": "all", **_together(cells)}
    for model, dataset in sorted({(each.cell.model, each.cell.dataset) for each in cells}):
        here = [each for each in cells if (each.cell.model, each.cell.dataset) == (model, dataset)]
        yield {"scope": "model_dataset", "model": model, "dataset": dataset, **_together(here)}
    for each in cells:
        cell = each.cell
        names = {name: getattr(cell, name) for name in ("model", "dataset", "method", "keep", "seed")}
        yield {"scope": "cell", **names, **_together([each])}


def _together(cells: Sequence[OfCell]) -> dict[str, object]:
    """The mean over cells that have a gain. Cells of one dataset share its images, so their parts add up by image."""
    known = [(each, each.gain) for each in cells if each.gain is not None]
    counted = [each for each, _ in known] or cells
    counts = {
        "n_cells": len(known),
        "n": sum(each.n for each in counted),
        "n_changed": sum(each.n_changed for each in counted),
    }
    if not known:
        return {**counts, "note": cells[0].note if len(cells) == 1 else "too few answers changed in every cell"}
    by_dataset: dict[str, Floats] = {}
    for each, found in known:
        dataset = each.cell.dataset
        by_dataset[dataset] = by_dataset.get(dataset, np.zeros(len(found.influence))) + found.influence / len(known)
    spread = HALF_WIDTH * float(np.sqrt(sum((part**2).sum() for part in by_dataset.values())))
    margin, both = (float(np.mean([getattr(found, name) for _, found in known])) for name in ("by_margin", "by_both"))
    bounds = {"gain": both - margin, "gain_low": both - margin - spread, "gain_high": both - margin + spread}
    return {**counts, "auroc_margin": margin, "auroc_both": both, **bounds}
