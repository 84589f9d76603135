"""What a sweep is said to cost: shared work counted as it is run, timings read back, and what is missing told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlavaConfig

from lofi.cli import main
from lofi.config import check_models, from_dict, load
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
from lofi.errors import UserError
from lofi.plan.asked import Asked, read_asked
from lofi.plan.flops import encode, logits, mlp, prefill, step
from lofi.plan.plan import plan
from lofi.plan.rates import PEAK, TERA, UNTIMED, USED, assumed, given, measured
from lofi.plan.shape import Shape, read_shape
from lofi.plan.table import lines
from lofi.plan.timings import Timing, read_timings, stored_files
from lofi.plan.work import STABILITY_PASSES, SYSTEM_TOKENS, work_apart, work_of
from lofi.sweep import FILL

ROOT = Path(__file__).parents[2]
COUNTS = Asked(images=10, questions=40, prepared=True, picture=(96, 96))
TEXT = 20.0
N, DEPTH = 144, 6


@pytest.fixture
def shape() -> Shape:
    return read_shape(ROOT / "lofi" / "assets" / "digits-llava")


def sweep_of(methods, **more):
    return from_dict(
        {"models": {"digits-llava": {}}, "datasets": {"digits-vqa": {}}, "methods": methods, "keeps": [0.5], **more}
    )


def work(shape, methods, drawn=0.0, **more):
    more = {"stability_images": 0, **more}
    return work_of(sweep_of(methods, **more), "digits-llava", "digits-vqa", shape, COUNTS, text=TEXT, drawn=drawn)


def behind_one_prefix(shape, kept):
    """Every image once, its four questions behind it, the text before it already read; logits for each answer.

    The last layer's MLP runs for the 40 tokens that are answered.
    """
    unread = mlp(shape.decoder, 10 * (kept + 4 * TEXT) - 40)
    return 10 * prefill(shape.decoder, [kept] * DEPTH, 4 * TEXT, SYSTEM_TOKENS) - unread + logits(shape.decoder, 40)


def full_model(shape):
    """`full` and `floor`, and what the full model says for each of them and for the job of all other cells."""
    return 2 * behind_one_prefix(shape, N) + 3 * logits(shape.decoder, 40)


def each_alone(shape, visual, read=0, answers=40):
    new = SYSTEM_TOKENS + TEXT - read
    one = prefill(shape.decoder, visual, new, read) - mlp(shape.decoder, visual[-1] + new - 1)
    return answers * (one + logits(shape.decoder, 1))


def test_a_method_that_is_blind_to_the_question_reads_an_image_once(shape):
    picture = encode(shape.encoder, shape.projector, shape.views(96, 96))
    found = work(shape, {"lofi": {}})
    assert found.vision == pytest.approx(10 * 3 * picture)  # full, floor, and one for all other cells of the job
    assert found.prefill == pytest.approx(full_model(shape) + behind_one_prefix(shape, 72))
    assert found.decode == 0


def test_a_method_that_sees_the_question_reads_an_image_for_each(shape):
    found = work(shape, {"mmtok": {}})
    assert found.prefill == pytest.approx(full_model(shape) + each_alone(shape, [72] * DEPTH, SYSTEM_TOKENS))


def test_a_method_inside_the_llm_reads_what_each_layer_reads(shape):
    """A mean of 72 with all tokens in the first two of six layers: 2 * 144 + 4 * 36 = 6 * 72."""
    found = work(shape, {"fastv": {}})
    staged = [N, N, 36, 36, 36, 36]
    assert found.prefill == pytest.approx(full_model(shape) + each_alone(shape, staged))
    # self-agreement reads the features as they are and under three changes, one question for each of its images
    probed = work(shape, {"fastv": {}}, stability_images=5)
    passes = 5 * STABILITY_PASSES
    assert probed.prefill - found.prefill == pytest.approx(each_alone(shape, staged, answers=passes))


def test_methods_inside_the_llm_share_the_layers_before_their_first_stage(shape):
    alone = [work(shape, {name: {}}).prefill - full_model(shape) for name in ("fastv", "dart")]
    first = 40 * prefill(shape.decoder, [N] * 2, SYSTEM_TOKENS + TEXT)  # both prune before layer 2
    both = work(shape, {"fastv": {}, "dart": {}}).prefill - full_model(shape)
    assert both == pytest.approx(sum(alone) - first)
    apart = work(shape, {"fastv": {}, "dart": {}}, pack=["keep", "seed"]).prefill - full_model(shape)
    assert apart == pytest.approx(sum(alone) + logits(shape.decoder, 40))


def test_one_answer_at_a_time_encodes_and_reads_everything_for_each(shape):
    sweep = sweep_of({"lofi": {}, "fastv": {}}, stability_images=0)
    found = work_apart(sweep, "digits-llava", "digits-vqa", shape, COUNTS, text=TEXT, drawn=0.0)
    assert found.vision == pytest.approx(4 * 40 * encode(shape.encoder, shape.projector, shape.views(96, 96)))
    read = ([N] * DEPTH, [N] * DEPTH, [72] * DEPTH, [N, N, 36, 36, 36, 36])  # full, floor, lofi, fastv
    one = sum(prefill(shape.decoder, visual, SYSTEM_TOKENS + TEXT) + logits(shape.decoder, 1) for visual in read)
    assert found.prefill == pytest.approx(40 * one)


def test_what_only_a_run_can_tell_counts_as_asked_or_as_everything(shape):
    asked = each_alone(shape, [72] * DEPTH)  # fitprune meets its mean, by counts that it has yet to find
    assert work(shape, {"fitprune": {}}).prefill == pytest.approx(full_model(shape) + asked)
    assert work(shape, {"prumerge": {}}).prefill == pytest.approx(full_model(shape) + behind_one_prefix(shape, N))


def test_decoding_steps_read_all_that_stands_before_them(shape):
    found = work(shape, {"lofi": {}}, drawn=3.0)
    beside = SYSTEM_TOKENS + 4 * TEXT
    one = [step(shape.decoder, [kept] * DEPTH, beside) + logits(shape.decoder, 1) for kept in (N, N, 72)]
    assert found.decode == pytest.approx(40 * 3 * sum(one))


def test_more_jobs_encode_more_often(shape):
    methods = {"random": {"seeds": [0, 1]}, "lofi": {}, "tome_vit": {}, "int8": {"reducer": "full", "weights": "int8"}}
    picture = 10 * encode(shape.encoder, shape.projector, shape.views(96, 96))
    merging = 1  # tome_vit runs the encoder again
    assert work(shape, methods).vision == pytest.approx((2 + 2 + merging) * picture)  # int8 loads a model of its own
    assert work(shape, methods, pack=[]).vision == pytest.approx((2 + 5 + merging) * picture)


@pytest.mark.parametrize(
    ("pack", "shards", "jobs"),  # as a dry run of Snakemake counts them, see tests/workflow/test_dry_run.py
    [
        (["method", "keep", "seed"], 1, 2 + 2),
        (["method", "keep", "seed"], 3, 6 + 6),
        (["method", "seed"], 1, 2 + 4),
        (["keep"], 1, 2 + 6),
        ([], 1, 2 + 12),
        ([], 2, 4 + 24),
    ],
)
def test_job_counts(tmp_path, pack, shards, jobs):
    sweep = from_dict(
        {
            "models": {"digits-llava": {}},
            "datasets": {"digits-pope": {}, "digits-sqa": {}},
            "methods": {"random": {"seeds": [0, 1]}, "lofi": {}},
            "keeps": [0.5, 0.25],
            "pack": pack,
            "shards": shards,
        }
    )
    found = plan(sweep, tmp_path)
    assert found.models[0].jobs == jobs + 2  # self-agreement of two datasets
    assert found.shared_jobs == 2 + 3  # two datasets to prepare, aggregate, report, all


def test_the_default_sweep_as_the_readme_has_it(tmp_path):
    *_, total = plan_rows(plan(load(ROOT / "config.yaml"), tmp_path))
    assert total[:5] == ["in", "all", "258", "103,200", "24"]


def plan_rows(found):
    text = list(lines(found))
    return [line.split() for line in text[: text.index("")]]


def test_counts_from_the_card_under_a_limit(tmp_path):
    vqa = sweep_of({"lofi": {}}, datasets={"vqav2_val": {"limit": 1000}}).datasets[0]
    asked = read_asked(vqa, tmp_path)
    assert (asked.images, asked.questions, asked.new_tokens, asked.prepared) == (1000, 5292, 16, False)
    assert read_asked(replace(vqa, limit=10**6), tmp_path).questions == 214_354
    pope = sweep_of({"lofi": {}}, datasets={"pope": {}}).datasets[0]
    assert (read_asked(pope, tmp_path).questions, read_asked(pope, tmp_path).new_tokens) == (9000, 0)


def test_generated_answers_of_lettered_questions_are_counted(tmp_path, digits):
    settings = {"source": str(digits / "digits-sqa"), "limit": 4}
    read, drawn = (
        sweep_of({"lofi": {}}, datasets={"digits-sqa": {**settings, "scoring_mode": mode}}).datasets[0]
        for mode in ("logits", "generate")
    )
    assert [read_asked(each, tmp_path).new_tokens for each in (read, drawn)] == [0, 16]
    prepare(get_card("digits-sqa"), tmp_path / "digits-sqa", limit=4, prompt_style="lmms_eval", source=read.source)
    found = [read_asked(each, tmp_path) for each in (read, drawn)]
    assert [(each.prepared, each.new_tokens) for each in found] == [(True, 0), (True, 16)]
    mixed = sweep_of({"lofi": {}}, datasets={"mmmu_val": {}}).datasets[0]
    assert read_asked(mixed, tmp_path).new_tokens == 128  # some of its questions are open


@pytest.fixture
def project(tmp_path, tiny_model, digits, monkeypatch):
    """A small sweep on an untrained model."""
    monkeypatch.chdir(tmp_path)
    sweep = {
        "models": {"tiny": {"source": str(tiny_model)}},
        "datasets": {"digits-vqa": {"source": str(digits / "digits-vqa"), "limit": 4}},
        "methods": {"lofi": {}, "fastv": {"keeps": [0.5]}},
        "keeps": [0.25],
    }
    (tmp_path / "config.yaml").write_text(json.dumps(sweep))
    return tmp_path


def test_prepared_files_and_stored_timings_replace_what_is_assumed(project, capsys):
    def said():
        assert main(["plan"]) == 0
        return capsys.readouterr().out.splitlines()

    assert "(by its card)" in "\n".join(said())
    assert main(["prepare", "--dataset", "digits-vqa"]) == 0
    assert "digits-vqa: 16 questions about 4 images (prepared)" in said()
    assert said()[-1].startswith("Hours of one job at a time on one device: tiny: 30% of the 19.5 TFLOP/s of an A100")
    job = ["--model", "tiny", "--dataset", "digits-vqa"]
    assert main(["reference", *job]) == 0
    assert main(["evaluate", *job]) == 0
    capsys.readouterr()
    assert "tiny: stored timings on cpu (" in said()[-1]

    sweep = load(project / "config.yaml")
    files = stored_files(Path("results"), "tiny")
    timings = read_timings(files)
    assert {timing.method: timing.visual for timing in timings} == {"full": 144, "floor": 144, "lofi": 36, "fastv": 72}
    (fastv,) = (timing for timing in timings if timing.method == "fastv")
    assert (list(fastv.layers), fastv.images, fastv.answers) == ([144, 144, 24, 24, 24], 4, 16)
    # the seconds that are stored come out again, with what they do not cover
    rates = measured(sweep, read_shape(Path(sweep.models[0].source)), timings, "cpu")
    spent = sum(timing.prefill_s + timing.decode_s for timing in timings)
    assert rates is not None
    assert spent > 0
    found = plan(sweep, Path("results")).models[0]
    assert found.results == pytest.approx(sum(file.stat().st_size for file in files), rel=0.2)
    assert found.seconds > spent
    assert main(["plan", "--tflops", "0.5"]) == 0
    assert "tiny: 0.5 TFLOP/s (--tflops)" in capsys.readouterr().out


def test_rates_give_back_the_seconds_that_were_stored(shape):
    sweep = sweep_of({"fastv": {}}, datasets={"digits-vqa": {}}, stability_images=0)
    cells = {"full": [N] * DEPTH, "floor": [N] * DEPTH, "fastv": [N, N, 36, 36, 36, 36]}
    timings = [
        Timing("digits-vqa", method, "", 10, 40, TEXT, 3.0, sum(layers) / DEPTH, layers, N, 0.5, 2.0, 1.0, "cpu")
        for method, layers in cells.items()
    ]
    stranger = replace(timings[0], method="of another sweep", prefill_s=1e9)
    rates = measured(sweep, shape, [*timings, stranger], "cpu")
    assert rates is not None
    found = work_of(sweep, "digits-llava", "digits-vqa", shape, COUNTS, text=TEXT, drawn=3.0)
    # three cells of two seconds of prefill and one of decoding; full, floor and the other job encode for themselves
    # but for the logits of the full model that cells are compared with, which no stored time covers
    assert rates.seconds(found) == pytest.approx((3 * 2.0 + 3 * 1.0 + 3 * 0.5) * (1 + UNTIMED), rel=1e-3)
    assert measured(sweep, shape, [], "cpu") is None


def test_assumed_and_given_rates(shape):
    found = work(shape, {"lofi": {}})
    assert assumed("bfloat16").seconds(found) == pytest.approx(
        found.total / (USED * PEAK["bfloat16"] * TERA) * (1 + UNTIMED)
    )
    assert given(2.0).seconds(found) == pytest.approx(found.total / 2e12 * (1 + UNTIMED))


def test_a_7b_model_by_its_config_alone(tmp_path):
    LlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064}).save_pretrained(tmp_path / "llava")
    sweep = sweep_of(
        {"lofi": {}},
        models={"llava": {"source": str(tmp_path / "llava"), "dtype": "bfloat16"}},
        datasets={"pope": {}},
    )
    (found,) = plan(sweep, tmp_path).models
    assert found.weights == pytest.approx(14.13e9, rel=1e-3)
    # full and floor read 9,000 * 64 + 500 * 592 tokens each, and half the image tokens once more, at 2 * 6.6e9 a token
    tokens = 3 * 9000 * 64 + 500 * (592 + 592 + 304)
    assert found.work.prefill == pytest.approx(tokens * 2 * 6.6e9, rel=0.15)
    assert found.seconds == pytest.approx(1.5 * found.work.total / 93.6e12)


def test_models_whose_config_is_not_here(project, capsys):
    config = json.loads((project / "config.yaml").read_text())
    config["models"]["far"] = {"source": "nobody/no-model"}
    (project / "config.yaml").write_text(json.dumps(config))
    assert main(["plan"]) == 2
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[1][0] == "tiny"
    assert "?" not in rows[1]
    assert rows[2] == ["far", "4", "64", "3", "?", "?", *rows[2][6:8], "?"]
    assert said.err.count("\n") == 1
    assert said.err.startswith(
        "lofi plan: 1 of 2 models have no hours, because their config.json is not on this machine"
    )
    assert (
        "far; fetch each where there is a network, with `lofi prepare --config config.yaml --without-weights"
        in said.err
    )
    assert main(["prepare", "--without-weights", "--model", "far"]) == 2
    assert "model 'nobody/no-model' cannot be downloaded" in capsys.readouterr().err
    assert main(["prepare", "--without-weights", "--model", "tiny"]) == 0


def test_a_revision_still_to_fill_in_can_be_planned_and_does_not_run(project, capsys):
    config = json.loads((project / "config.yaml").read_text())
    config["models"]["tiny"]["revision"] = FILL
    (project / "config.yaml").write_text(json.dumps(config))
    assert main(["plan"]) == 0
    capsys.readouterr()
    for command in (["check"], ["prepare", "--model", "tiny"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"lofi {command[0]}: models.tiny: revision is still FILL")
        assert "give the commit (40 hex digits)" in said
    with pytest.raises(UserError, match=r"models\.tiny: revision is still FILL"):
        check_models(load(project / "config.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--tflops", "0"], "--tflops 0 is no rate; give a number above 0, such as 94"),
        (["--tflops", "nan"], "--tflops nan is no rate"),
        (["text.yaml"], "cannot be planned with"),
        (["deep.yaml"], "methods.fastv cannot keep 0.2500 of models.tiny: a layer mean of 36 of 144 tokens"),
    ],
)
def test_mistakes_are_one_line(project, arguments, message, capsys):
    config = json.loads((project / "config.yaml").read_text())
    (project / "deep.yaml").write_text(json.dumps({**config, "methods": {"fastv": {}}}))
    (project / "text").mkdir()
    (project / "text" / "config.json").write_text('{"model_type": "llama"}')
    (project / "text.yaml").write_text(json.dumps({**config, "models": {"m": {"source": str(project / "text")}}}))
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lofi plan: ")
    assert error.count("\n") == 1
    assert message in error


def test_broken_samples_are_one_line(project, capsys):
    broken = project / "results/samples/model=tiny/dataset=d/method=full/keep=1.0000/seed=0/shard-0000.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no parquet")
    assert main(["plan"]) == 2
    assert "stored samples cannot be read" in capsys.readouterr().err


def test_pixels_within_limits():
    """1,920 x 1,080 at 28 pixels to a token is 69 x 39; within a million pixels it shrinks, in proportion."""
    from lofi.plan.shape import shape_of
    from tests.families.tiny import tiny

    shape = replace(shape_of(tiny("qwen2_5_vl")[0].config), patch=14, merge=2)
    assert shape.views(1920, 1080).tokens == 69 * 39
    assert shape.views(1920, 1080, most=1_000_000).tokens == 47 * 26
    assert shape.views(28, 28, least=28 * 28 * 16).tokens == 16
