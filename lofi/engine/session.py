"""A loaded model at work on one dataset."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL.Image import Image

from lofi.cell import Cell
from lofi.data.docs import Doc
from lofi.engine.batch import Batch, Photo, make_batch
from lofi.engine.columns import Constants
from lofi.engine.readout import Options, option_forms
from lofi.methods.context import TextTower, encoder_layer
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import Stages, stages_of_counts
from lofi.models.adapter import Adapter, Prompt
from lofi.sweep import MethodSpec, stages_of


@dataclass(frozen=True)
class Fit:
    """What a calibration has found for one method: parameters, or the counts at each layer for each keep."""

    params: Mapping[str, object] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass
class Session:
    """A loaded model at work on one dataset, with what it has already tokenized and fitted."""

    adapter: Adapter
    constants: Constants
    tower: TextTower | None = None
    fitted: dict[MethodSpec, Fit] = field(default_factory=dict)
    _prompts: dict[str, Prompt] = field(default_factory=dict)
    _forms: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def prompt(self, text: str) -> Prompt:
        """The token ids of a prompt."""
        if text not in self._prompts:
            self._prompts[text] = self.adapter.prompt(text)
        return self._prompts[text]

    def options(self, doc: Doc) -> Options:
        """The tokens of a question's options."""
        for label in doc.option_labels:
            if label not in self._forms:
                self._forms[label] = option_forms(self.adapter.processor.tokenizer, label)
        return Options(tuple(doc.option_labels), tuple(self._forms[label] for label in doc.option_labels))

    def open(self, opened: Sequence[tuple[Photo, Image]], methods: Iterable[MethodSpec]) -> Batch:
        """Encode images for these methods."""
        layers = tapped_layers(self.adapter, methods)
        return make_batch(self.adapter, opened, layers, self.prompt, self.options, self.tower)

    def stages(self, cell: Cell, method: MethodSpec) -> Stages | None:
        """When a method inside the LLM prunes, for one cell; None for a method before it."""
        fit = self.fitted.get(method)
        if fit is not None and fit.counts:
            return stages_of_counts(fit.counts[cell.keep])
        return stages_of(method, cell.keep, self.constants.n_visual, self.constants.n_layers)


def tapped_layers(adapter: Adapter, methods: Iterable[MethodSpec]) -> set[int]:
    """Encoder layers whose queries and keys some reducer of the methods reads."""
    reducers = [get_reducer(method.reducer) for method in methods]
    depth = len(adapter.encoder_layers)
    return {
        layer
        for reducer in reducers
        if "attention" in reducer.needs
        for layer in (adapter.feature_layer, *(encoder_layer(layer, depth) for layer in reducer.layers))
    }
