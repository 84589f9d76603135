"""What the workflow plans, and what it says: no model runs here."""

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ONCE = {"aggregate": 1, "report": 1}


@pytest.mark.parametrize(
    ("pack", "shards", "reference", "evaluate"),
    [
        (["method", "keep", "seed"], 1, 2, 2),
        (["method", "keep", "seed"], 3, 6, 6),
        (["method", "seed"], 1, 2, 4),
        (["keep"], 1, 2, 6),
        ([], 1, 2, 12),
        ([], 2, 4, 24),
    ],
)
def test_job_counts(stubbed, pack, shards, reference, evaluate):
    stubbed.sweep |= {"pack": pack, "shards": shards}
    planned = {"prepare": 2, "reference": reference, "evaluate": evaluate, "stability": 2}
    assert stubbed.plan() == {**ONCE, **planned}


def without_sbatch(folder: Path, scratch: Path) -> Path:
    """A folder of the PATH as it is on a machine without SLURM."""
    if not (folder / "sbatch").exists():
        return folder
    links = scratch / f"without-{folder.name}"
    links.mkdir()
    for program in folder.iterdir():
        if program.name != "sbatch":
            (links / program.name).symlink_to(program)
    return links


def test_the_slurm_profile_plans_without_slurm(stubbed, tmp_path, monkeypatch):
    folders = dict.fromkeys(Path(folder).resolve() for folder in os.environ["PATH"].split(os.pathsep))
    monkeypatch.setenv("PATH", os.pathsep.join(str(without_sbatch(f, tmp_path)) for f in folders))
    assert shutil.which("sbatch") is None
    said = stubbed.forked("--profile", "slurm", "--dry-run")
    assert stubbed.plan("--profile", "slurm") == {**ONCE, "prepare": 2, "reference": 2, "evaluate": 2, "stability": 2}
    for rule in ("reference", "evaluate", "stability"):
        for asked in resources(said, rule):
            assert (asked["slurm_partition"], asked["gpu"]) == ("gpu", "1")
    for rule in ("aggregate", "report"):
        for asked in resources(said, rule):
            assert asked["slurm_partition"] == "cpu"
            assert "gpu" not in asked


def resources(said: str, rule: str) -> list[dict[str, str]]:
    """What each job of a rule asks for, as Snakemake prints it."""
    jobs = re.findall(rf"^(?:local)?rule {rule}:\n(?:    .*\n)*?    resources: (.*)$", said, flags=re.MULTILINE)
    assert jobs
    return [dict(re.findall(r"(\w+)=([^,\s]+)", job)) for job in jobs]


@pytest.mark.parametrize(("pack", "cells"), [(["method", "keep", "seed"], 6), ([], 1)], ids=["packed", "one by one"])
def test_a_job_asks_for_what_its_cells_need_and_for_more_when_it_is_started_again(stubbed, pack, cells):
    stubbed.sweep |= {"pack": pack, "datasets": {"digits-pope": {}}, "stability_images": 0}
    (stubbed.folder / "fail").write_text("evaluate")
    said = stubbed.run("--retries", "1", "--until", "evaluate", ok=False)
    asked = [(int(each["mem_mb"]), int(each["runtime"])) for each in resources(said, "evaluate")]
    memory, minutes = 16_000 + cells * 50, 30 + cells * 10
    assert set(asked) == {(memory, minutes), (2 * memory, 2 * minutes)}


def test_the_default_sweep_is_the_demo_and_config_values_are_typed(stubbed):
    """Without --configfile, config.yaml beside the Snakefile; --config is merged over it."""
    source = stubbed.sweep["models"]["m"]["source"]
    stubbed.configfile = False
    override = f"models={{digits-llava: {{source: '{source}', revision: null, batch_images: 4}}}}"
    assert stubbed.plan("--config", override) == {**ONCE, "prepare": 3, "reference": 6, "evaluate": 6, "stability": 6}
    assert stubbed.plan("--config", override, "keeps=[0.5, 36]", "pack=[]")["evaluate"] == 2 * 3 * (10 * 2 + 1)


@pytest.mark.parametrize("pack", [["method", "keep", "seed"], ["keep"], []])
def test_a_run_calls_the_command_line_once_per_job_and_then_rests(stubbed, pack):
    stubbed.sweep["pack"] = pack
    planned = stubbed.plan()
    stubbed.run()
    calls = stubbed.calls()
    assert len(calls) == sum(planned.values())
    evaluations = [call for call in calls if call.startswith("evaluate")]
    for axis in ("method", "keep", "seed"):
        assert all((f"--{axis}" in call) == (axis not in pack) for call in evaluations)
    assert "reference --config results/sweep.json --model m --dataset digits-pope --shard 0000" in calls
    assert "stability --config results/sweep.json --model m --dataset digits-pope" in calls
    assert "report --config results/sweep.json --output reports/index.html" in calls
    # a --configfile stands alone: Snakemake would merge the demo's models and methods into it
    methods = {path.name for path in stubbed.folder.glob("results/samples/model=*/*/method=*")}
    assert methods == {"method=full", "method=floor", "method=random", "method=lofi"}
    assert "Nothing to be done" in stubbed.run()
    assert stubbed.calls() == []


@pytest.mark.parametrize(("pack", "evaluate"), [(["method", "keep", "seed"], 2), ([], 16)])
def test_methods_with_keeps_of_their_own(stubbed, pack, evaluate):
    stubbed.sweep["methods"] |= {"prumerge": {}, "divprune": {"keeps": [36]}}
    stubbed.sweep["pack"] = pack
    stubbed.run()
    assert sum(call.startswith("evaluate") for call in stubbed.calls()) == evaluate
    keeps = {path.parts[-2:] for path in stubbed.folder.glob("results/samples/model=m/dataset=digits-pope/*/*")}
    assert {("method=prumerge", "keep=auto"), ("method=divprune", "keep=36")} <= keeps
    assert ("method=lofi", "keep=36") not in keeps


def touch_model(sweep):
    sweep["models"]["m"]["batch_images"] = 3


def move_to_gpu(sweep):
    sweep["models"]["m"]["device"] = "cuda"


def other_dtype(sweep):
    sweep["models"]["m"]["dtype"] = "bfloat16"


def add_method(sweep):
    sweep["methods"]["divprune"] = {}


def remove_method(sweep):
    del sweep["methods"]["random"]


def reorder_methods(sweep):
    sweep["methods"] = dict(reversed(sweep["methods"].items()))


def change_parameter(sweep):
    sweep["methods"]["lofi"] = {"score": "ridge"}


def spell_out_default(sweep):
    sweep["methods"]["lofi"] = {"score": "leverage", "ridge": 0}


def add_keep(sweep):
    sweep["keeps"] = [0.5, 0.25, 36]


def add_seed(sweep):
    sweep["methods"]["random"]["seeds"] = [0, 1, 2]


def add_dataset(sweep):
    sweep["datasets"]["digits-vqa"] = {}


def limit_one_dataset(sweep):
    sweep["datasets"]["digits-sqa"] = {"limit": 5}


def other_scorer(sweep):
    """Answers are graded again: neither the questions nor self-agreement change."""
    sweep["datasets"]["digits-sqa"] = {"scorer": "textvqa"}


def generate_answers(sweep):
    sweep["datasets"]["digits-sqa"] = {"scoring_mode": "generate"}


def other_prompts(sweep):
    sweep["datasets"]["digits-pope"] = {"prompt_style": "vlmevalkit"}


def other_image_mode(sweep):
    sweep["models"]["m"]["image_mode"] = "pad"


def other_stability_images(sweep):
    sweep["stability_images"] = 8


def no_stability(sweep):
    sweep["stability_images"] = 0


CHANGES = [
    # what changes, what runs again at pack [], and the jobs of evaluate at the default pack (None: not looked at)
    (touch_model, {"report": 1}, 0),
    (move_to_gpu, {"report": 1}, None),
    (spell_out_default, {}, None),
    (reorder_methods, {"report": 1}, None),
    (other_dtype, {"reference": 2, "evaluate": 12, "stability": 2, **ONCE}, None),
    (add_method, {"evaluate": 4, "stability": 2, **ONCE}, 2),
    (remove_method, {"stability": 2, **ONCE}, None),
    (change_parameter, {"evaluate": 4, "stability": 2, **ONCE}, None),
    (add_keep, {"evaluate": 6, "stability": 2, **ONCE}, 2),
    (add_seed, {"evaluate": 4, "stability": 2, **ONCE}, None),
    (add_dataset, {"prepare": 1, "reference": 1, "evaluate": 6, "stability": 1, **ONCE}, None),
    (limit_one_dataset, {"prepare": 1, "reference": 1, "evaluate": 6, "stability": 1, **ONCE}, 1),
    (other_scorer, {"reference": 1, "evaluate": 6, **ONCE}, 1),
    (generate_answers, {"reference": 1, "evaluate": 6, "stability": 1, **ONCE}, 1),
    (other_prompts, {"prepare": 1, "reference": 1, "evaluate": 6, "stability": 1, **ONCE}, 1),
    (other_image_mode, {"reference": 2, "evaluate": 12, "stability": 2, **ONCE}, 2),
    (other_stability_images, {"stability": 2, **ONCE}, 0),
    (no_stability, ONCE, 0),
]


def all_changes(stubbed, skip=()):
    before = copy.deepcopy(stubbed.sweep)
    for change, expected, packed in CHANGES:
        if packed != skip:
            stubbed.sweep = copy.deepcopy(before)
            change(stubbed.sweep)
            yield change.__name__, stubbed.plan(), expected, packed


def test_only_what_changed_is_planned_at_one_job_per_cell(stubbed):
    stubbed.sweep["pack"] = []
    stubbed.run()
    for name, planned, expected, _ in all_changes(stubbed):
        assert planned == expected, name


def test_only_what_changed_is_planned_at_the_default_pack(stubbed):
    stubbed.run()
    for name, planned, expected, packed in all_changes(stubbed, skip=None):
        assert planned.pop("evaluate", 0) == packed, name
        assert planned == {rule: count for rule, count in expected.items() if rule != "evaluate"}, name


def test_no_old_report_survives_a_change_whose_cells_all_fail(stubbed):
    stubbed.run()
    stubbed.sweep["methods"]["lofi"] = {"score": "ridge"}
    (stubbed.folder / "fail").write_text("evaluate")
    said = stubbed.run("--keep-going", ok=False)
    log = "logs/evaluate/model=m/dataset=digits-pope/shard=0000.log"
    assert log in said, "a failing rule names its log"
    assert "the stub fails as it was told to" in (stubbed.folder / log).read_text()
    assert "Nothing to be done" not in stubbed.run("--keep-going", ok=False)
    (stubbed.folder / "fail").unlink()
    assert stubbed.plan() == {"evaluate": 2, "aggregate": 1, "report": 1}
    stubbed.run()
    assert stubbed.plan() == {}


def test_training_keeps_its_work_folder(stubbed):
    folder = stubbed.folder / "results/training"
    assert stubbed.plan("train_digits") == {"train_digits": 1, "train_student": 2}
    (stubbed.folder / "fail").write_text("train-digits")
    (folder / "checkpoints/digits-qwen").mkdir(parents=True)
    (folder / "checkpoints/digits-qwen/checkpoint").write_text("half way")
    stubbed.run("train_digits", ok=False)
    assert (folder / "checkpoints/digits-qwen/checkpoint").exists()
    (stubbed.folder / "fail").unlink()
    stubbed.run("train_digits")
    for name in ("digits-llava", "digits-qwen"):
        assert (folder / name / "model.safetensors").exists()


MISTAKES = {
    "unknown key": ({"keeps": [0.5], "shard": 2}, "unknown key in the config 'shard': did you mean 'shards'?"),
    "keep": ({"keeps": [1.2]}, "lofi: keep 1.2 is outside (0, 1]"),
    "pack": ({"pack": ["seed"]}, "lofi: pack [seed] does not fit this sweep"),
    "count": ({"keeps": [200]}, "lofi: keep 200 asks for all or more of the 144 visual tokens of models.m"),
    "rectangle": ({"methods": {"pool": {}}, "keeps": [13]}, "lofi: methods.pool cannot keep 13"),
}


@pytest.mark.parametrize(("change", "line"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_config_is_one_line(stubbed, change, line):
    stubbed.sweep |= change
    lines = stubbed.forked("--dry-run", ok=False).splitlines()
    assert line in lines[-1]
    assert lines[:-1] == [], "nothing but the message"
    assert not (stubbed.folder / "results").exists()


def test_a_key_given_twice_is_one_line(stubbed):
    stubbed.command()
    path = stubbed.folder / "twice.yaml"
    path.write_text((stubbed.folder / "sweep.yaml").read_text() + "keeps: [0.125]\n")
    said = stubbed.forked("--dry-run", "--configfile", str(path), ok=False)
    assert said.startswith(f"lofi: {path}: line ")
    assert "key 'keeps' is given twice" in said
    assert said.count("\n") == 1


def test_a_mistake_in_an_override_is_one_line(stubbed):
    said = stubbed.forked("--dry-run", "--config", "keeps=[0.5", ok=False).splitlines()
    assert said[-1].startswith("lofi: --config keeps: line 1: not valid YAML")
    assert "Traceback" not in "".join(said)


def test_lint_and_format(stubbed):
    assert "in a good condition" in stubbed.forked("--lint")
    snakefmt = shutil.which("snakefmt", path=stubbed.environment["PATH"])
    assert snakefmt, "snakefmt is not installed"
    done = subprocess.run(
        [snakefmt, "--check", "Snakefile", "workflow"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_rule_has_a_docstring_and_every_file_too():
    for path in [REPOSITORY / "Snakefile", *(REPOSITORY / "workflow/rules").glob("*.smk")]:
        text = path.read_text()
        assert text.startswith('"""'), path
        for rule in re.findall(r"^rule (?!all)\w+:\n(.*)", text, flags=re.MULTILINE):
            assert rule.strip().startswith('"""'), path
