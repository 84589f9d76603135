"""One image of a job with its questions, before anything has opened it. Light: neither torch nor a model."""

from dataclasses import dataclass

from lofi.data.docs import Doc


@dataclass(frozen=True)
class Photo:
    """One image of a shard, still encoded, and the questions about it."""

    image_hash: str
    content: bytes | None
    docs: tuple[Doc, ...]

    @property
    def key(self) -> int:
        """63 bits of the hash, for random reducers."""
        return int(self.image_hash[:16], 16) >> 1
