"""The pages of the report, in the order of its navigation: one module each, with one function that makes it."""

from collections.abc import Callable

from lofi.report.audit import Audit
from lofi.report.page import Page
from lofi.report.pages import (
    answer,
    calibration,
    certification,
    cost,
    datasets,
    definitions,
    flips,
    forecast,
    frontier,
    ipr,
    layers,
    methods,
    noise,
    provenance,
    sample_shifts,
    samples,
    self_agreement,
)

# Adding a page is one module and one line. A module may make several pages, such as one for each dataset, or none.
PAGES: tuple[Callable[[Audit], list[Page]], ...] = (
    answer.pages,
    frontier.pages,
    flips.pages,
    methods.pages,
    noise.pages,
    calibration.pages,
    ipr.pages,
    sample_shifts.pages,
    forecast.pages,
    layers.pages,
    certification.pages,
    self_agreement.pages,
    cost.pages,
    samples.pages,
    datasets.pages,
    provenance.pages,
    definitions.pages,
)
