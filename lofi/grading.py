"""Grading stored answers: what the scorer and the dataset's card say about them, apart from how they were made.

Light: no model is needed, and no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from lofi.data.digest import digest_values
from lofi.data.docs import Doc, Docs
from lofi.errors import UserError
from lofi.scoring.answers import Answer, Question
from lofi.scoring.registry import Scorer, get_scorer
from lofi.store import column

GRADES = ("prediction_parsed", "parse_status", "score", "correct")  # null where there is no answer
GROUPS = ("group_id", "figure_id", "cluster_id", "category", "l2_category")  # what a sample is counted with
ACCEPTED = ("option_labels", "options", "target", "targets")


@dataclass(frozen=True)
class Grading:
    """A scorer at work on the answers to a prepared dataset's questions."""

    scorer: str
    docs: Docs

    @cached_property
    def rule(self) -> Scorer:
        """The scorer of that name."""
        return get_scorer(self.scorer)

    @cached_property
    def stamp(self) -> dict[str, Any]:
        """What a file's metadata says about its grades; a file that says anything else has to be graded again."""
        sheet = [[getattr(doc, name) for name in ("sample_id", *GROUPS, *ACCEPTED)] for doc in self.docs.rows]
        return {"scorer": self.scorer, "scorer_version": self.rule.version, "sheet": digest_values(sheet)}

    def grade(self, samples: pa.Table) -> pa.Table:
        """The same samples with the grades and groups of today; rows without an answer keep their grades null."""
        docs = [self._doc(sample_id) for sample_id in samples.column("sample_id").to_pylist()]
        answers = [
            None if prediction is None else self.rule.rule(prediction, question_of(doc))
            for prediction, doc in zip(samples.column("prediction").to_pylist(), docs, strict=True)
        ]
        columns: dict[str, Sequence[Any]] = {
            "scorer": [self.scorer] * len(docs),
            "scorer_version": [self.rule.version] * len(docs),
            **{name: [getattr(doc, name) for doc in docs] for name in (*GROUPS, "target")},
            **_grades(answers),
        }
        if missing := columns.keys() - set(samples.column_names):
            raise UserError(
                f"the samples lack the column {', '.join(sorted(missing))}: an earlier lofi wrote them; "
                "run the sweep again, which replaces them"
            )
        for name, values in columns.items():
            samples = samples.set_column(samples.schema.get_field_index(name), name, column(name, values))
        return samples

    @cached_property
    def _by_id(self) -> dict[str, Doc]:
        return {doc.sample_id: doc for doc in self.docs.rows}

    def _doc(self, sample_id: str) -> Doc:
        try:
            return self._by_id[sample_id]
        except KeyError:
            raise UserError(
                f"sample {sample_id} is not a question of the prepared dataset; run `lofi prepare` and evaluate again"
            ) from None


def changed(before: pa.Table, after: pa.Table, names: Sequence[str] = GRADES) -> int:
    """In how many rows any of these columns differs between two tables of the same samples."""
    old, new = (zip(*(table.column(name).to_pylist() for name in names), strict=True) for table in (before, after))
    return sum(one != other for one, other in zip(old, new, strict=True))


def question_of(doc: Doc) -> Question:
    """What a scorer may know of a doc."""
    return Question(doc.target, doc.targets, doc.options, doc.option_labels, doc.category, doc.l2_category)


def _grades(answers: Sequence[Answer | None]) -> dict[str, list[Any]]:
    return {
        "prediction_parsed": [answer and answer.parsed for answer in answers],
        "parse_status": [answer and answer.status for answer in answers],
        "score": [None if answer is None else answer.score for answer in answers],
        "correct": [None if answer is None else answer.correct for answer in answers],
    }
