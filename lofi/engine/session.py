"""A loaded model at work on one dataset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lofi.cell import Cell
from lofi.data.docs import Doc
from lofi.engine.batch import Batch, OpenPhoto, make_batches
from lofi.engine.columns import Constants
from lofi.engine.loader import Loader
from lofi.engine.photo import Photo
from lofi.engine.questions import Prefix
from lofi.engine.readout import Options, option_forms
from lofi.engine.system import System, read_system
from lofi.methods.context import TextTower, encoder_layer
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import Stages, stages_of_counts
from lofi.models.adapter import Adapter
from lofi.models.opened import ids_after
from lofi.models.weights import Quantised
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
    quantised: Quantised | None = None  # None: the decoder's weights are as they were loaded
    fitted: dict[MethodSpec, Fit] = field(default_factory=dict)
    padding: int = 0  # columns behind every row that nobody reads
    loader: Loader | None = None  # None: images are opened here, one after the other
    _prompts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _forms: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _systems: dict[tuple[int, ...], System] = field(default_factory=dict)

    def prompt(self, text: str) -> tuple[int, ...]:
        """The token ids of a prompt behind its image."""
        if text not in self._prompts:
            self._prompts[text] = ids_after(self.adapter, text)
        return self._prompts[text]

    def system(self, before: Prefix) -> System:
        """What the decoder makes of the text in front of the images."""
        key = tuple(before.ids[: int(before.placeholders.min())].tolist())
        if key not in self._systems:
            self._systems[key] = read_system(self.adapter, before)
        return self._systems[key]

    def options(self, doc: Doc) -> Options:
        """The tokens of a question's options."""
        for label in doc.option_labels:
            if label not in self._forms:
                self._forms[label] = option_forms(self.adapter.processor.tokenizer, label)
        return Options(tuple(doc.option_labels), tuple(self._forms[label] for label in doc.option_labels))

    def load(self, photos: Iterable[Photo]) -> Iterator[OpenPhoto]:
        """Photos as the processor opens them, in their order."""
        return (self.loader or Loader(self.adapter.opening)).open(photos)

    def open(self, photos: Iterable[OpenPhoto], methods: Iterable[MethodSpec]) -> list[Batch]:
        """Encode the images that did open for these methods: a batch for each geometry."""
        opened = [(each.photo, each.picture) for each in photos if each.picture]
        layers = tapped_layers(self.adapter, methods)
        found = make_batches(self.adapter, opened, layers, self.prompt, self.options, self.tower)
        return [replace(batch, questions=replace(batch.questions, spare=self.padding)) for batch in found]

    def stages(self, cell: Cell, method: MethodSpec, n: int) -> Stages | None:
        """When a method inside the LLM prunes n visual tokens, for one cell; None for a method before it."""
        fit = self.fitted.get(method)
        if fit is None or not fit.counts:
            return stages_of(method, cell.keep, n, self.constants.n_layers)
        # fitted on images of one size: those of another keep the same shares
        counts = fit.counts[cell.keep]
        return stages_of_counts([round(count * n / counts[0]) for count in counts])


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
