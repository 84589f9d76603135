"""Mistakes that users make, by what they are made in. `docs/errors.md` shows what lofi says to each."""

import yaml

from tests.errors.case import Case
from tests.errors.damage import (
    FULL,
    LOFI,
    all_of,
    closed,
    column,
    config,
    copied,
    cut,
    edited,
    entries,
    file_at,
    folder_at,
    gone,
    settings,
    shelf,
    stamped,
    without,
    written,
)
from tests.errors.folders import QUESTIONS, write_finished, write_model, write_prepared, write_shelf
from tests.unit.test_config import FILES, WRONG

JOB = ("--model", "tiny", "--dataset", "digits-pope")
SOURCE = ("prepare", "--dataset", "mine")
CHECK_CARD = ("data", "check", "shelf/shelf.yaml")
GATE = ("check", "--reference", "full", "--min-agreement", "0.5")


def _configs() -> list[Case]:
    """Those that the tests of the config know, through the command line."""
    return [
        Case(what, ("check",), tuple(fragments), written("config.yaml", yaml.safe_dump(made, sort_keys=False)))
        for what, (made, fragments) in WRONG.items()
    ]


def _files() -> list[Case]:
    return [
        Case(what, ("check", "--config", name), tuple(fragments), written(name, text))
        for what, (name, text, fragments) in FILES.items()
    ]


CONFIGS = [
    *_configs(),
    Case(
        "pack that does not fit the seeds",
        ("check",),
        ("pack [seed] does not fit this sweep", "use pack: []"),
        config(methods={"random": {"seeds": [0, 1]}, "lofi": {}}, pack=["seed"]),
    ),
    Case("a count of all tokens", ("check",), ("keep 144 asks for all", "use at most 143"), config(keeps=[144])),
    Case(
        "a count that fills no rectangle",
        ("check",),
        ("methods.pool cannot keep 13", "rectangle"),
        config(methods={"pool": {}}, keeps=[13]),
    ),
    Case(
        "a mean out of a method's reach",
        ("check",),
        ("methods.fastv cannot keep 0.1250", "choose such a keep, or budget: tokens"),
        config(methods={"fastv": {}}, keeps=[0.125]),
    ),
    Case(
        "a method that the model cannot run",
        ("check",),
        ("methods.trim needs the CLIP text model", "set text_tower"),
        config(methods={"trim": {}}),
    ),
    Case("limits of pixels for a fixed size", ("check",), ("has max_pixels", "remove them"), settings(max_pixels=9)),
    Case("a revision still to be filled in", ("check",), ("revision is still FILL",), settings(revision="FILL")),
]

CONFIG_FILES = [
    *_files(),
    Case("no such file", ("check", "--config", "no.yaml"), ("no.yaml cannot be read: No such file", "give the path")),
    Case("a folder", ("check", "--config", "."), (". cannot be read: Is a directory",)),
    Case("another encoding", ("check",), ("not UTF-8 text (byte 7)",), written("config.yaml", b"keeps: \xe9")),
    Case(
        "no permission",
        ("check",),
        ("config.yaml cannot be read: Permission denied",),
        closed("config.yaml"),
        as_others=True,
    ),
    Case("a date that is none", ("check",), ("line 1", "2026-13-45"), written("config.yaml", "keeps: 2026-13-45\n")),
    Case("a list as a key", ("check",), ("line 1", "not valid YAML"), written("config.yaml", "[a, b]: 1\n")),
    Case("an alias of nothing", ("check",), ("line 1", "undefined alias"), written("config.yaml", "keeps: *k\n")),
    Case("an alias of itself", ("check",), ("alias",), written("config.yaml", "models: &m {a: *m}\n")),
    Case(
        "aliases that grow without end",
        ("check",),
        ("aliases stand for more than 100,000 values",),
        written(
            "config.yaml",
            "a: &a [x, x]\n"
            + "".join(
                f"{b}: &{b} [*{a}, *{a}]\n"
                for a, b in zip("abcdefghijklmnopqrstuvw", "bcdefghijklmnopqrstuvwx", strict=True)
            ),
        ),
    ),
    Case("brackets without end", ("check",), ("nested too deeply",), written("config.yaml", "keeps: " + "[" * 2_000)),
]

MODELS = [
    Case(
        "no such folder",
        ("check",),
        ("model source './nowhere' is no folder", "give such a folder"),
        settings(source="./nowhere"),
    ),
    Case(
        "a folder without config.json",
        ("check",),
        ("is no folder with a config.json",),
        gone("model/config.json"),
        write_model,
    ),
    Case(
        "no such embedded model",
        ("check",),
        ("unknown embedded model 'digits-lava'", "did you mean 'digits-llava'"),
        settings(source="embedded:digits-lava"),
    ),
    Case("a hub id that is none", ("check",), ("a b/c",), settings(source="a b/c")),
    Case(
        "config.json is no JSON", ("check",), ("model/config.json is no JSON",), cut("model/config.json"), write_model
    ),
    Case("config.json is no object", ("check",), ("config.json",), written("model/config.json", "[]"), write_model),
    Case(
        "config.json lacks the encoder",
        ("check",),
        ("config.json",),
        entries("model/config.json", vision_config=None),
        write_model,
    ),
    Case(
        "an architecture that lofi does not know",
        ("check",),
        ("'bert'",),
        entries("model/config.json", model_type="bert"),
        write_model,
    ),
    Case(
        "a hub model that is not here",
        ("reference", *JOB),
        ("is not on this machine", "run `lofi prepare --model`"),
        settings(source="nobody/no-model"),
        write_prepared,
    ),
    Case(
        "no network",
        ("prepare", "--model", "tiny"),
        ("model 'nobody/no-model' cannot be downloaded", "unset that, or give a local folder"),
        settings(source="nobody/no-model"),
        write_model,
    ),
    Case(
        "no weights",
        ("reference", *JOB),
        ("without model.safetensors",),
        gone("model/model.safetensors"),
        write_prepared,
    ),
    Case(
        "weights as a pickle only",
        ("prepare", "--model", "tiny"),
        ("loads weights from safetensors and nothing else",),
        all_of(gone("model/model.safetensors"), written("model/pytorch_model.bin", b"x")),
        write_model,
    ),
    Case(
        "truncated weights",
        ("reference", *JOB),
        ("the model in model cannot be loaded", "copy the checkpoint again"),
        cut("model/model.safetensors"),
        write_prepared,
    ),
    Case(
        "weights that are no safetensors",
        ("reference", *JOB),
        ("the model in model cannot be loaded", "copy the checkpoint again"),
        written("model/model.safetensors", b"x" * 100),
        write_prepared,
    ),
    Case(
        "weights of another model",
        ("reference", *JOB),
        ("are not those of its config.json", "copy the checkpoint again"),
        edited("model/config.json", '"num_hidden_layers": 5', '"num_hidden_layers": 6'),
        write_prepared,
    ),
    Case(
        "an index of weights that is no JSON",
        ("reference", *JOB),
        ("index.json",),
        written("model/model.safetensors.index.json", "{"),
        write_prepared,
    ),
    Case("no processor", ("reference", *JOB), ("processor",), gone("model/processor_config.json"), write_prepared),
    Case(
        "a processor that is no JSON",
        ("reference", *JOB),
        ("processor_config.json",),
        cut("model/processor_config.json"),
        write_prepared,
    ),
    Case(
        "no tokenizer",
        ("reference", *JOB),
        ("tokenizer",),
        all_of(gone("model/tokenizer.json"), gone("model/tokenizer_config.json")),
        write_prepared,
    ),
    Case(
        "no conversation template",
        ("reference", *JOB),
        ("has no chat template of its own", "give its `template`"),
        gone("model/chat_template.jinja"),
        write_prepared,
    ),
    Case(
        "a template that is not Jinja",
        ("reference", *JOB),
        ("bad.jinja",),
        all_of(settings(template="bad.jinja"), written("bad.jinja", "{% for %}")),
        write_prepared,
    ),
    Case(
        "a text tower that is no CLIP",
        ("check",),
        ("text_tower './model' has the architecture 'llava'",),
        settings(text_tower="./model"),
        write_model,
    ),
]

DATASETS = [
    Case(
        "a card without entries", CHECK_CARD, ("dataset shelf: the card lacks target",), shelf(target=...), write_shelf
    ),
    Case(
        "an entry that no card has",
        CHECK_CARD,
        ("unknown entry of dataset shelf 'questoin'", "did you mean 'question'"),
        shelf(questoin="x"),
        write_shelf,
    ),
    Case(
        "an entry of another type",
        CHECK_CARD,
        ("max_new_tokens is '8'", "a whole number"),
        shelf(max_new_tokens="8"),
        write_shelf,
    ),
    Case("a column that is not listed", CHECK_CARD, ("add reply to `columns`",), shelf(target="reply"), write_shelf),
    Case(
        "a column that the table lacks",
        CHECK_CARD,
        ("questions.csv lacks the columns reply", "correct the card's `columns`"),
        shelf(target="reply", columns=["id", "photo", "question", "reply"]),
        write_shelf,
    ),
    Case(
        "a task that is none",
        CHECK_CARD,
        ("task 'vqa' is not one of yesno, mcq, open",),
        shelf(task="vqa"),
        write_shelf,
    ),
    Case(
        "a scorer that is none",
        CHECK_CARD,
        ("unknown scorer 'pop'", "did you mean 'pope'"),
        shelf(scorer="pop"),
        write_shelf,
    ),
    Case(
        "metrics that are none",
        SOURCE,
        ("unknown metric of dataset mine 'acuracy'",),
        shelf(metrics=["acuracy"]),
        write_shelf,
    ),
    Case(
        "a prompt with an unknown column",
        CHECK_CARD,
        ("names 'frage', which is no column",),
        shelf(prompts={"plain": "{frage}"}),
        write_shelf,
    ),
    Case(
        "a prompt with an open brace",
        CHECK_CARD,
        ("is not well formed", "for braces"),
        shelf(prompts={"plain": "{question"}),
        write_shelf,
    ),
    Case(
        "a prompt that formats text as a number",
        CHECK_CARD,
        ("question",),
        shelf(prompts={"plain": "{question:d}"}),
        write_shelf,
    ),
    Case(
        "a prompt that looks inside a value",
        CHECK_CARD,
        ("question.__class__",),
        shelf(prompts={"plain": "{question.__class__}"}),
        write_shelf,
    ),
    Case("no prompt", CHECK_CARD, ("no prompt; give at least one style",), shelf(prompts={}), write_shelf),
    Case(
        "a prompt style that the card lacks",
        (*CHECK_CARD, "--prompt-style", "lmms_eval"),
        ("unknown prompt style", "choose from plain"),
        shelf(),
        write_shelf,
    ),
    Case(
        "a source that is not there",
        CHECK_CARD,
        ("is no folder or file here, and no hub id", "correct `source`"),
        shelf(source="answers.csv"),
        write_shelf,
    ),
    Case(
        "a source that is no table",
        (*CHECK_CARD, "--source", "shelf/red.png"),
        ("is no table that lofi reads", "give a folder, or a file in .csv"),
        start=write_shelf,
    ),
    Case(
        "an empty folder as source",
        (*CHECK_CARD, "--source", "empty"),
        ("cannot read dataset shelf from empty",),
        lambda folder: (folder / "empty").mkdir(),
        write_shelf,
    ),
    Case(
        "a hub dataset without a network",
        SOURCE,
        ("'nobody/nothing' cannot be downloaded", "unset that, or give a local folder"),
        shelf(source="nobody/nothing"),
        write_shelf,
    ),
    Case(
        "a split that is not there",
        CHECK_CARD,
        ("there is no split 'all'",),
        all_of(shelf(source="."), gone("shelf/shelf.yaml"), shelf(source="./")),
        write_shelf,
    ),
    Case(
        "an empty table",
        SOURCE,
        ("has no rows",),
        written("shelf/questions.csv", QUESTIONS.splitlines()[0] + "\n"),
        write_shelf,
    ),
    Case(
        "an empty file", SOURCE, ("questions.csv lacks the columns",), written("shelf/questions.csv", ""), write_shelf
    ),
    Case(
        "a quote that is not closed",
        SOURCE,
        ("questions.csv is not well-formed", "check its quotes"),
        edited("shelf/questions.csv", "1,red.png", '1,"red.png'),
        write_shelf,
    ),
    Case(
        "a table in another encoding",
        SOURCE,
        ("is not UTF-8 text",),
        written("shelf/questions.csv", QUESTIONS.encode() + b"4,red.png,\xe9,yes\n"),
        write_shelf,
    ),
    Case(
        "a row of another length",
        SOURCE,
        ("line 4: 3 values under 4 columns",),
        edited("shelf/questions.csv", "3,blue.png,", "3,"),
        write_shelf,
    ),
    Case(
        "an answer that is no yes or no",
        SOURCE,
        ("line 2", "'maybe'", "correct the row or the card"),
        edited("shelf/questions.csv", "red?,yes", "red?,maybe"),
        write_shelf,
    ),
    Case(
        "an empty answer",
        CHECK_CARD,
        ("line 2, answer is ''", "correct the row or the card"),
        edited("shelf/questions.csv", "red?,yes", "red?,"),
        write_shelf,
        code=1,
    ),
    Case(
        "an image that is not there",
        CHECK_CARD,
        ("line 2, photo", "red.png cannot be read: No such file"),
        gone("shelf/red.png"),
        write_shelf,
        code=1,
    ),
    Case("an image that is none", CHECK_CARD, ("line 2, photo",), written("shelf/red.png", "x"), write_shelf, code=1),
    Case(
        "two rows of one id",
        CHECK_CARD,
        ("1 rows repeat one and get a number",),
        edited("shelf/questions.csv", "3,blue", "2,blue"),
        write_shelf,
        code=0,
    ),
    Case(
        "JSON lines with a broken line",
        CHECK_CARD,
        ("line 1", "not valid JSON"),
        all_of(shelf(source="rows.jsonl"), written("shelf/rows.jsonl", "{\n")),
        write_shelf,
        code=1,
    ),
    Case(
        "no such dataset",
        ("data", "check", "digits-pop"),
        ("unknown dataset 'digits-pop'", "did you mean 'digits-pope'"),
    ),
    Case("no such card", ("data", "check", "no.yaml"), ("no.yaml cannot be read: No such file",)),
]

STORED = [
    Case("not prepared", ("reference", *JOB), ("holds no readable dataset", "run `lofi prepare`"), start=write_model),
    Case(
        "questions cut off",
        ("reference", *JOB),
        ("holds no readable dataset", "run `lofi prepare`"),
        cut("results/data/digits-pope/docs.parquet"),
        write_prepared,
    ),
    Case(
        "images that are no Parquet",
        ("reference", *JOB),
        ("holds no readable dataset",),
        written("results/data/digits-pope/images.parquet", "x"),
        write_prepared,
    ),
    Case(
        "questions without a column",
        ("reference", *JOB),
        ("holds no readable dataset",),
        without("results/data/digits-pope/docs.parquet", "target"),
        write_prepared,
    ),
    Case(
        "questions without their stamp",
        ("reference", *JOB),
        ("do not belong together", "run `lofi prepare` again"),
        stamped("results/data/digits-pope/docs.parquet", key="x"),
        write_prepared,
    ),
    Case(
        "no reference",
        ("evaluate", *JOB),
        ("is missing or belongs to another model", "lofi reference --model tiny"),
        start=write_prepared,
    ),
    Case(
        "a reference cut off",
        ("evaluate", *JOB),
        ("lofi reference --model tiny",),
        all_of(cut("results/reference/model=tiny/dataset=digits-pope/shard-0000.parquet"), gone("results/cache")),
        write_finished,
    ),
    Case("a cell is missing", ("aggregate",), ("method=lofi",), gone(LOFI), write_finished),
    Case(
        "a cell is cut off", ("aggregate",), ("method=lofi", "delete it and evaluate again"), cut(LOFI), write_finished
    ),
    Case(
        "a cell that is no Parquet",
        ("aggregate",),
        ("method=lofi", "delete it and evaluate again"),
        written(LOFI, "x"),
        write_finished,
    ),
    Case("a folder in place of a cell", ("aggregate",), ("method=lofi",), folder_at(LOFI), write_finished),
    Case(
        "a cell without a column",
        ("aggregate",),
        ("lacks the columns margin", "evaluate again"),
        without(LOFI, "margin"),
        write_finished,
    ),
    Case(
        "a cell of another schema version",
        ("aggregate",),
        ("schema version 3", "evaluate again"),
        column(LOFI, "schema_version", 3),
        write_finished,
    ),
    Case(
        "a cell of another conversation template",
        ("aggregate",),
        ("conversation template x (its full cell:", "evaluate both again"),
        column(LOFI, "template_hash", "x"),
        write_finished,
    ),
    Case(
        "a cell under the name of another",
        ("aggregate",),
        ("holds 8 samples more than once", "give each shard once"),
        copied(FULL, LOFI),
        write_finished,
    ),
    Case(
        "a cell of other questions",
        ("aggregate",),
        ("whose question or image is not the full cell's", "evaluate both"),
        column(LOFI, "doc_hash", "x"),
        write_finished,
    ),
    Case(
        "a cell that is missing for its scores",
        ("rescore",),
        ("1 of 4 sample files are missing",),
        gone(LOFI),
        write_finished,
    ),
    Case(
        "a cell of other questions for its scores",
        ("rescore",),
        ("answers the questions of revision", "run the sweep again"),
        column(LOFI, "dataset_revision", "x"),
        write_finished,
    ),
    Case(
        "a cell cut off for its scores",
        ("rescore",),
        ("cannot be read", "run the sweep again"),
        cut(LOFI),
        write_finished,
    ),
    Case(
        "a cell that is missing for the report",
        ("report",),
        ("1 of 4 cells are missing", "run the sweep again"),
        gone(LOFI),
        write_finished,
    ),
    Case(
        "a cell that changed after its tables",
        ("report",),
        ("are not in the tables as they are on disk", "run `lofi aggregate` again"),
        stamped(LOFI, key="x"),
        write_finished,
    ),
    Case(
        "a cell cut off for the report",
        ("report",),
        ("cannot be read", "run the sweep again"),
        cut(LOFI),
        write_finished,
    ),
    Case(
        "no tables for the report", ("report",), ("run `lofi aggregate` first",), gone("results/tables"), write_finished
    ),
    Case(
        "a table cut off for the report",
        ("report",),
        ("cannot be read", "run the sweep again"),
        cut("results/tables/cells.parquet"),
        write_finished,
    ),
    Case("no tables for a query", ("query", "SELECT 1"), ("there are no tables in results/tables", "lofi aggregate")),
    Case(
        "a table cut off for a query",
        ("query", "SELECT 1"),
        ("cells.parquet cannot be read", "lofi aggregate"),
        cut("results/tables/cells.parquet"),
        write_finished,
    ),
    Case(
        "a table cut off for a certificate",
        ("certify",),
        ("risks.parquet cannot be read", "lofi aggregate"),
        cut("results/tables/risks.parquet"),
        write_finished,
    ),
    Case(
        "no table for the gate",
        GATE,
        ("there is no table risks", "lofi aggregate"),
        gone("results/tables/risks.parquet"),
        write_finished,
    ),
    Case(
        "an older table for the gate",
        GATE,
        ("risks.parquet cannot be read", "lofi aggregate"),
        without("results/tables/risks.parquet", "n_events"),
        write_finished,
    ),
    Case("samples cut off for a plan", ("plan",), ("stored samples cannot be read",), cut(LOFI), write_finished),
    Case("results are a file", ("prepare", "--dataset", "digits-pope"), ("results",), file_at("results")),
    Case(
        "a folder in place of the report",
        ("report",),
        ("reports/index.html",),
        folder_at("reports/index.html"),
        write_finished,
    ),
    Case(
        "a results folder closed to writing",
        ("aggregate",),
        ("results/tables", "Permission denied"),
        all_of(closed("results/tables", 0o555), closed("results", 0o555)),
        write_finished,
        as_others=True,
    ),
    Case(
        "a cell closed to reading", ("aggregate",), ("Permission denied",), closed(LOFI), write_finished, as_others=True
    ),
]

COMMANDS = [
    Case("no such command", ("repot",), ("invalid choice: 'repot'", "choose from"), by="lofi"),
    Case(
        "an option that is none",
        ("check", "--keeps", "0.5"),
        ("unrecognized arguments: --keeps 0.5", "`lofi check --help`"),
    ),
    Case("an option without its value", ("evaluate", "--model"), ("argument --model: expected one argument",)),
    Case("a needed option left out", ("evaluate", "--model", "tiny"), ("are required: --dataset",)),
    Case("a word for a number", ("evaluate", *JOB, "--shard", "one"), ("invalid int value: 'one'",)),
    Case(
        "two of which only one may be",
        ("prepare", "--dataset", "digits-pope", "--model", "tiny"),
        ("not allowed with",),
    ),
    Case("neither of two", ("prepare",), ("one of the arguments --dataset --model is required",)),
    Case(
        "a model that the sweep lacks",
        ("evaluate", "--model", "digits-lava", "--dataset", "digits-pope"),
        ("unknown model 'digits-lava'", "did you mean 'digits-llava'"),
    ),
    Case(
        "a dataset that the sweep lacks",
        ("reference", "--model", "digits-llava", "--dataset", "pope"),
        ("unknown dataset 'pope'", "did you mean 'digits-pope'"),
    ),
    Case(
        "a shard too many",
        ("reference", "--model", "digits-llava", "--dataset", "digits-pope", "--shard", "1"),
        ("shard 1 is not one of the sweep's 1", "use 0 to 0"),
    ),
    Case(
        "a method that the sweep lacks",
        ("evaluate", *JOB, "--method", "lofy"),
        ("unknown method 'lofy'", "did you mean 'lofi'"),
        start=write_prepared,
    ),
    Case(
        "a keep in another spelling",
        ("evaluate", *JOB, "--keep", "0.25"),
        ("unknown keep '0.25'", "did you mean '0.2500'"),
        start=write_prepared,
    ),
    Case(
        "a seed that the sweep lacks",
        ("evaluate", *JOB, "--seed", "7"),
        ("unknown seed 7", "choose from 0"),
        start=write_prepared,
    ),
    Case(
        "self-agreement switched off",
        ("stability", *JOB),
        ("stability_images is 0", "set it to 32"),
        start=write_prepared,
    ),
    Case(
        "an unknown scorer",
        ("rescore", "--scorer", "pop"),
        ("unknown scorer 'pop'", "did you mean 'pope'"),
        start=write_finished,
    ),
    Case("rescoring before there are samples", ("rescore",), ("4 of 4 sample files are missing",)),
    Case("a rate that is none", ("plan", "--tflops", "-3"), ("--tflops -3 is no rate", "give a number above 0")),
    Case("a negative limit", ("data", "check", "digits-pope", "--limit", "-1"), ("-1",)),
    Case(
        "a limit for results without a reference",
        ("check", "--min-agreement", "0.9"),
        ("--min-agreement is about results", "add --reference full"),
    ),
    Case(
        "a reference that is none",
        ("check", "--reference", "floor", "--min-agreement", "0.9"),
        ("reference 'floor' is not what the tables compare with", "use --reference full"),
        start=write_finished,
    ),
    Case(
        "no limit",
        ("check", "--reference", "full"),
        ("no limit was given", "give --max-flip-rate"),
        start=write_finished,
    ),
    Case(
        "a share in per cent",
        ("check", "--reference", "full", "--max-flip-rate", "5"),
        ("flip rate 5 is outside [0, 1]", "0.05 for 5 %"),
        start=write_finished,
    ),
    Case(
        "a method that the tables lack",
        (*GATE, "--method", "lofy"),
        ("unknown method 'lofy'", "did you mean 'lofi'"),
        start=write_finished,
    ),
    Case(
        "a report file that cannot be written",
        (*GATE, "--junit", "config.yaml/x.xml"),
        ("config.yaml/x.xml cannot be written", "give another path"),
        start=write_finished,
    ),
    Case(
        "limits that cells break",
        ("check", "--reference", "full", "--max-flip-rate", "0", "--min-agreement", "1", "--confident"),
        ("fail",),
        start=write_finished,
        code=1,
    ),
    Case(
        "a certificate of a limit in per cent",
        ("certify", "--max-negative-flips", "2"),
        ("a limit of 2 is no share", "write 0.02 for 2 %"),
        start=write_finished,
    ),
    Case(
        "a certificate of no confidence",
        ("certify", "--confidence", "0.2"),
        ("a confidence of 0.2 is outside [0.5, 1)", "write 0.95"),
        start=write_finished,
    ),
    Case(
        "a certificate of NaN",
        ("certify", "--max-divergence", "nan"),
        ("a limit of nan is no share",),
        start=write_finished,
    ),
    Case("a certificate without tables", ("certify",), ("there is no table risks", "lofi aggregate")),
    Case(
        "a manifest that is a config",
        ("reproduce", "config.yaml"),
        ("config.yaml is no manifest of a report", "give the manifest.json"),
    ),
    Case("a manifest that is not there", ("reproduce", "manifest.json"), ("manifest.json is no file", "beside a report")),
    Case(
        "a manifest of a later lofi",
        ("reproduce", "manifest.json"),
        ("has the format 2, and this lofi reads 1",),
        written("manifest.json", '{"format": 2}'),
    ),
    Case(
        "half a manifest",
        ("reproduce", "manifest.json"),
        ("its generated is missing or of another kind",),
        written("manifest.json", '{"format": 1, "command": "lofi report"}'),
    ),
    Case(
        "a query that writes",
        ("query", "DROP TABLE cells"),
        ("a query is one statement that reads",),
        start=write_finished,
    ),
    Case(
        "a query that writes a file",
        ("query", "COPY cells TO 'x.csv'"),
        ("a query is one statement that reads",),
        start=write_finished,
    ),
    Case(
        "two queries", ("query", "SELECT 1; SELECT 2"), ("a query is one statement that reads",), start=write_finished
    ),
    Case("a query with a wrong word", ("query", "SELEC 1"), ("syntax error",), start=write_finished),
    Case(
        "a query of an unknown table",
        ("query", "SELECT * FROM cell"),
        ("cell does not exist", "cells"),
        start=write_finished,
    ),
    Case(
        "a query of an unknown column",
        ("query", "SELECT acuracy FROM cells"),
        ("acuracy", "accuracy"),
        start=write_finished,
    ),
    Case(
        "a query of samples that are gone",
        ("query", "SELECT * FROM samples"),
        ("sample files are gone",),
        gone("results/samples"),
        write_finished,
    ),
    Case(
        "an unknown format", ("query", "SELECT 1", "--format", "xml"), ("invalid choice: 'xml'",), start=write_finished
    ),
]

SNAKEMAKE = ("snakemake", "--dry-run", "--configfile", "config.yaml")
WORKFLOW = [
    Case(what, command, says, change, code=1, by="lofi")
    for what, command, says, change in (
        ("an unknown key", SNAKEMAKE, ("unknown key in the config 'shard': did you mean 'shards'?",), config(shard=2)),
        (
            "a key given twice",
            SNAKEMAKE,
            ("key 'keeps' is given twice",),
            written("config.yaml", "keeps: [0.5]\nkeeps: [0.25]\n"),
        ),
        (
            "a wrong value on the command line",
            (*SNAKEMAKE, "--config", "keeps=[1.2]"),
            ("keep 1.2 is outside (0, 1]",),
            config(),
        ),
    )
]

CASES = {
    "The config": CONFIGS,
    "Files of a config": CONFIG_FILES,
    "Models": MODELS,
    "Datasets": DATASETS,
    "Stored files": STORED,
    "Command lines": COMMANDS,
    "The workflow": WORKFLOW,
}
