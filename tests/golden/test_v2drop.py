"""V2Drop keeps exactly the tokens that the authors' code keeps, stage after stage."""

import pytest

from lofi.methods.registry import METHODS
from lofi.methods.schedule import Staged
from lofi.methods.select import select_stage

from .decoding import going_on, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "v2drop")
LAYERS = GOLDEN["layers"].tolist()


def test_the_layers_are_the_authors() -> None:
    schedule = METHODS["v2drop"].schedule
    assert isinstance(schedule, Staged)
    assert list(schedule.layers) == LAYERS


@pytest.mark.parametrize("stage", range(len(LAYERS)))
def test_every_stage_keeps_what_the_authors_keep(stage: int) -> None:
    start, n, t = (int(GOLDEN[name]) for name in ("start", "n_image", "n_text"))
    before, after = GOLDEN.tensor(f"s{stage}_prev"), GOLDEN.tensor(f"s{stage}_cur")
    expected = GOLDEN[f"s{stage}_keep"].tolist()
    v, k = len(after) - start - t, len(expected) - start - t
    assert stage or v == n
    seen = view(len(after), start, v, layer=LAYERS[stage], n=n, hidden=after, previous=before)
    selection = select_stage("v2drop", seen, k, seed=0, params={})
    positions_in = GOLDEN.tensor(f"s{stage}_position_ids_in")
    kept, positions = going_on(seen, selection, METHODS["v2drop"].positions, positions_in)
    assert kept == expected
    assert positions == GOLDEN[f"s{stage}_position_ids_out"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
