"""Packing: the layout by brute force, and a model that cannot tell packed from separate."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from lofi.models.packing import pack

PREFIX = torch.tensor([[0, 1, 2, 5, 9], [0, 1, 2, 3, 4]])
LENGTHS = torch.tensor([[3, 1, 4], [2, 0, 4]])
WIDTH = 4


SPARE = 2


def _owners(row: int) -> list[int | None]:
    """Whose columns a row has behind its prefix, by the contract; None for padding."""
    owners = [number for number, length in enumerate(LENGTHS[row].tolist()) for _ in range(length)]
    return [*owners, *[None] * (int(LENGTHS.sum(1).max()) + SPARE - len(owners))]


def _may_attend(row: int, query: int, key: int) -> bool:
    """The contract, word by word."""
    owners = ["prefix"] * PREFIX.shape[1] + _owners(row)
    if query == key:
        return True
    if owners[query] is None or owners[key] is None or key > query:
        return False
    return owners[key] in ("prefix", owners[query])


def test_mask_follows_the_contract_for_every_pair_of_columns() -> None:
    packed = pack(PREFIX, LENGTHS, WIDTH, spare=SPARE)
    size = PREFIX.shape[1] + 8 + SPARE
    assert packed.mask.shape == (2, 1, size, size)
    assert packed.mask.dtype == torch.bool
    wrong = [
        (row, query, key)
        for row in range(2)
        for query in range(size)
        for key in range(size)
        if bool(packed.mask[row, 0, query, key]) != _may_attend(row, query, key)
    ]
    assert not wrong


def test_positions_restart_after_the_prefix_of_each_row() -> None:
    packed = pack(PREFIX, LENGTHS, WIDTH)
    assert packed.positions[0].tolist() == [0, 1, 2, 5, 9, 10, 11, 12, 10, 10, 11, 12, 13]
    assert packed.positions[packed.real][13:].tolist() == [0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8]


def test_last_is_the_column_of_the_last_real_token() -> None:
    assert pack(PREFIX, LENGTHS, WIDTH).last.tolist() == [[7, 8, 12], [6, 0, 10]]


@pytest.mark.parametrize(("lengths", "spare"), [(LENGTHS, 0), (LENGTHS, 3), (torch.full((2, 3), WIDTH), 0)])
def test_tokens_come_back_from_their_columns(lengths: torch.Tensor, spare: int) -> None:
    packed = pack(PREFIX, lengths, WIDTH, spare=spare)
    ids = torch.arange(24).reshape(2, 3, WIDTH)
    real = torch.arange(WIDTH) < lengths[..., None]
    row = packed.row(ids)
    assert row[packed.real[:, 5:]].tolist() == ids[real].tolist()
    whole = torch.cat([torch.full((2, 5), -1), row], 1)[..., None]
    assert torch.equal(packed.grid(whole)[..., 0][real], ids[real])
    assert torch.equal(packed.grid(whole[:, 2:])[..., 0][real], ids[real])  # of a layer that reads fewer columns


def test_a_question_longer_than_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3"):
        pack(PREFIX, LENGTHS, 3)


def test_one_question_equals_the_ordinary_causal_mask() -> None:
    packed = pack(torch.arange(3)[None], torch.tensor([[2]]), 2)
    assert torch.equal(packed.mask[0, 0], torch.ones(5, 5, dtype=torch.bool).tril())
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4]]


def test_packed_questions_give_the_same_states_as_separate_ones() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    model = LlamaModel(config).eval()
    prefix_ids = torch.randint(50, PREFIX.shape)
    question_ids = torch.randint(50, (2, 3, WIDTH))
    packed = pack(PREFIX, LENGTHS, WIDTH)
    with torch.no_grad():
        together = model(
            input_ids=torch.cat([prefix_ids, packed.row(question_ids)], dim=1),
            attention_mask=packed.mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        assert together.isfinite().all()
        for row in range(2):
            for number, length in enumerate(LENGTHS[row].tolist()):
                if length == 0:
                    continue
                ids = torch.cat([prefix_ids[row], question_ids[row, number, :length]])[None]
                start = int(PREFIX[row].max()) + 1
                positions = torch.cat([PREFIX[row], torch.arange(start, start + length)])[None]
                alone = model(
                    input_ids=ids,
                    # Without a mask transformers takes a gap in the positions for the start of another sequence.
                    attention_mask=torch.ones(1, ids.shape[1], dtype=torch.long),
                    position_ids=positions,
                    use_cache=False,
                ).last_hidden_state
                column = packed.last[row, number]
                torch.testing.assert_close(together[row, column], alone[0, -1], atol=1e-5, rtol=1e-5)
