"""Definitions: what every word and measure of the report means, one anchor each."""

from lofi.report.audit import Audit
from lofi.report.definitions import written
from lofi.report.page import Page, Prose


def pages(audit: Audit) -> list[Page]:
    """One page, the same for every sweep."""
    return [Page("definitions", "Definitions", [Prose(written())])]
