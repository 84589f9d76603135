"""The pages of the report, in the order of its navigation: one module each, with one function that makes it."""

from collections.abc import Callable

from lofi.report.audit import Audit
from lofi.report.page import Page

# Adding a page is one module and one line. A module may make several pages, such as one for each dataset, or none.
PAGES: tuple[Callable[[Audit], list[Page]], ...] = ()
