"""Rows become docs, in compact batches; at the end they are put in the order of their images."""

from collections import Counter

import pyarrow as pa

from lofi.data.digest import digest_text, digest_values
from lofi.data.docs import Doc, docs_table
from lofi.data.images import NO_IMAGE
from lofi.data.prompts import options_of, render, task_of
from lofi.data.reading import Reading
from lofi.data.registry import Card
from lofi.data.rows import answer_of, category_of, labels_of, target_of, targets_of
from lofi.data.source import Row
from lofi.data.templates import fill

BATCH_DOCS = 4096
UNFIT = (ValueError, TypeError, LookupError, AttributeError)  # of rows whose columns hold something else


class Collection:
    """The docs of a dataset so far."""

    def __init__(self, card: Card, prompt_style: str) -> None:
        self.card = card
        self.prompt_style = prompt_style
        self.taken = 0
        self._ids: Counter[str] = Counter()
        self._ranks: list[int] = []
        self._docs: list[Doc] = []
        self._batches: list[pa.Table] = []

    def take(self, reading: Reading) -> Doc:
        """Turn a row into a doc, and keep it."""
        doc = self._doc(reading, reading.entry.values)
        self.taken += 1
        self._ranks.append(reading.rank)
        self._docs.append(doc)
        if len(self._docs) == BATCH_DOCS:
            self._compact()
        return doc

    def table(self) -> pa.Table:
        """All docs, by image and then by row."""
        self._compact()
        order = pa.table({"rank": self._ranks, "at": range(self.taken)}).sort_by(
            [("rank", "ascending"), ("at", "ascending")]
        )
        return pa.concat_tables(self._batches).unify_dictionaries().take(order.column("at")).combine_chunks()

    def _compact(self) -> None:
        self._batches.append(docs_table(self._docs))
        self._docs = []

    def _doc(self, reading: Reading, row: Row) -> Doc:
        card = self.card
        fields = {**row, "row": reading.entry.number}
        options = options_of(card, row)
        task = task_of(card, row)
        labels = labels_of(task, options, card.letters)
        target = target_of(answer_of(card, row), task, labels)
        prompt = render(card, self.prompt_style, fields)
        sample_id = self._unique(fill(card.sample_id, fields))
        # rows without an image have none in common
        alone = sample_id if NO_IMAGE in reading.hashes else reading.image_hash
        return Doc(
            sample_id=sample_id,
            group_id=fill(card.group, fields) if card.group else sample_id,
            figure_id=fill(card.figure, fields) if card.figure else None,
            cluster_id=fill(card.cluster, fields) if card.cluster else alone,
            image_hash=reading.image_hash,
            image_hashes=reading.hashes,
            doc_hash=digest_values(row),
            category=category_of(row, card.category),
            l2_category=category_of(row, card.l2_category),
            question=str(row[card.question]),
            options=tuple(options),
            option_labels=tuple(labels),
            target=target,
            targets=tuple(targets_of(card, row, target)),
            task_type=task,
            prompt=prompt,
            prompt_hash=digest_text(prompt),
            split=card.split,
            max_new_tokens=card.max_new_tokens,
            image_error=reading.error,
        )

    def _unique(self, sample_id: str) -> str:
        """A dataset may repeat an id (MME: one per image); the second row of an id gets `#2`."""
        self._ids[sample_id] += 1
        return sample_id if self._ids[sample_id] == 1 else f"{sample_id}#{self._ids[sample_id]}"
