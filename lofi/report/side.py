"""What lies beside the page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """The files that the sample explorer reads on demand."""

    folder: str  # its name, beside the page
    stamp: str  # a digest of the files: the page takes none of another report
    shown: int  # changed answers in them
    pictures: int  # images in them
    lost_questions: int  # questions that the prepared data no longer has
