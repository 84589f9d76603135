"""A model on several devices, with weights that wait elsewhere: the same rows as on one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from lofi.cell import FLOOR, FULL, KEEP_ALL, Cell
from lofi.engine import parts
from lofi.engine.job import Job
from lofi.engine.stages import evaluate, reference
from lofi.errors import UserError
from lofi.models.adapter import Adapter
from lofi.models.load import load_model
from lofi.models.placement import device_named, device_of

from .engine_setup import METHODS, make_job, make_sweep
from .pretended import Pretend, put, spread

NAME = "digits-vqa"
ONE, TWO = torch.device("cpu:1"), torch.device("cpu:2")
# one for each way in which reducers read a model, and those that are fitted first
FEW = (
    "lofi",
    "fastervlm",
    "mmtok",
    "visionzip",
    "tome_vit",
    "fastv",
    "sparsevlm",
    "v2drop",
    "lofi_adaptive",
    "fitprune",
)
OF_A_RUN = {"run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"}
LANGUAGE = "model.language_model"
DEVICES = {
    "model.vision_tower": ONE,
    "model.multi_modal_projector": TWO,
    f"{LANGUAGE}.embed_tokens": ONE,
    **{f"{LANGUAGE}.layers.{layer}": ONE if layer == 0 else TWO for layer in range(5)},
    f"{LANGUAGE}.norm": TWO,
    f"{LANGUAGE}.rotary_emb": TWO,
    "lm_head": TWO,
}


def job_of(results: Path, model: Path, digits: Path, methods: dict[str, Any], device: str = "cpu") -> Job:
    sweep = make_sweep(
        model,
        digits,
        models={"tiny": {"source": str(model), "batch_images": 2, "device": device}},
        datasets={NAME: {"source": str(digits / NAME), "limit": 2}},
        methods=methods,
        keeps=[0.5],
    )
    return make_job(results, sweep, NAME)


def rows_of(job: Job) -> dict[Cell, list[dict[str, Any]]]:
    cells = (*(Cell("tiny", NAME, method, KEEP_ALL) for method in (FULL, FLOOR)), *job.cells())
    tables = {cell: pq.read_table(job.published(cell)) for cell in cells}
    return {
        cell: table.drop_columns([name for name in table.column_names if name in OF_A_RUN]).to_pylist()
        for cell, table in tables.items()
    }


def run(job: Job) -> dict[Cell, list[dict[str, Any]]]:
    reference(job)
    evaluate(job, job.cells())
    return rows_of(job)


def placed(monkeypatch: pytest.MonkeyPatch, place: Callable[[nn.Module], None]) -> None:
    """From now on loaded models are placed like that."""
    load = parts.load_model

    def load_placed(*args: Any, **kwargs: Any) -> Adapter:
        adapter = load(*args, **kwargs)
        place(adapter.model)
        return adapter

    monkeypatch.setattr(parts, "load_model", load_placed)


def test_the_pretence_refuses_what_two_devices_refuse() -> None:
    with Pretend() as pretend:
        one, two = put(torch.ones(2), ONE), put(torch.ones(2), TWO)
        with pytest.raises(RuntimeError, match=r"add: tensors on \['cpu:1', 'cpu:2'\]"):
            _ = one + two
        with pytest.raises(RuntimeError, match="linear"):
            nn.functional.linear(one[None], two[None])
        with pytest.raises(TypeError, match="cpu:1 device type tensor to numpy"):
            one[None].mT.numpy()
        assert (one + two.to(ONE)).device == one.new_zeros(3).device == torch.zeros(1, device=one.device).device == ONE
        assert pretend.moved == 1


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(METHODS), marks=pytest.mark.slow)])
def test_a_model_over_two_devices_gives_the_same_rows(
    names: tuple[str, ...], tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {name: METHODS[name] for name in names}
    expected = run(job_of(tmp_path / "one", tiny_model, digits, methods))
    pretend = Pretend()

    def place(model: nn.Module) -> None:
        spread(model, DEVICES)
        pretend.paused = False

    load = parts.load_model

    def load_paused(*args: Any, **kwargs: Any) -> Adapter:
        pretend.paused = True  # a checkpoint is read in ways that no model computes
        return load(*args, **kwargs)

    monkeypatch.setattr(parts, "load_model", load_paused)
    placed(monkeypatch, place)
    job = job_of(tmp_path / "two", tiny_model, digits, methods)
    with pretend:
        found = run(job)
    assert found == expected
    assert pretend.moved > 100
    assert {row["status"] for rows in found.values() for row in rows} == {"ok"}


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_weights_that_wait_elsewhere_give_the_same_rows(
    where: str, tmp_path: Path, tiny_model: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import cpu_offload, disk_offload

    methods = {name: METHODS[name] for name in ("lofi", "fastervlm", "mmtok", "fastv", "tome_vit")}
    expected = run(job_of(tmp_path / "here", tiny_model, digits, methods))

    def place(model: nn.Module) -> None:
        if where == "cpu":
            cpu_offload(model, torch.device("cpu"))
        else:
            disk_offload(model, str(tmp_path / "weights"), torch.device("cpu"))
        embeddings = model.get_input_embeddings()  # type: ignore[operator]
        assert next(embeddings.parameters()).is_meta
        assert device_of(embeddings) == torch.device("cpu")

    placed(monkeypatch, place)
    assert run(job_of(tmp_path / "elsewhere", tiny_model, digits, methods)) == expected


def test_a_map_over_what_this_machine_has_gives_the_same_rows(tmp_path: Path, tiny_model: Path, digits: Path) -> None:
    methods = {"lofi": {}, "fastv": METHODS["fastv"]}
    expected = run(job_of(tmp_path / "one", tiny_model, digits, methods))
    job = job_of(tmp_path / "map", tiny_model, digits, methods, device="map")
    assert run(job) == expected


def test_a_device_that_is_not_here_is_refused(tiny_model: Path) -> None:
    assert device_named("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=r"'gpu' is none; use auto, cpu, cuda, cuda:<number> or map"):
        device_named("gpu")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=f"'{absent}' is not here: this machine has {torch.cuda.device_count()} GPUs"):
        load_model(str(tiny_model), device=absent)
