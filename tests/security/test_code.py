"""Nothing that lofi reads is run: no pickle, no code of a checkpoint or a dataset, no shell, no objects from YAML."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lofi.config import load
from lofi.data.prepare import prepare
from lofi.data.registry import card_from
from lofi.errors import UserError
from lofi.models.load import load_pretrained

from .scan import dangers

FORBIDDEN = [
    "import pickle",
    "from pickle import loads",
    "import numpy, marshal",
    "import shelve as s",
    "from dill import load",
    "def f():\n    import cloudpickle",
    "torch.load(path, weights_only=True)",
    "torch.save(x, path)",
    "from torch import load",
    "pd.read_pickle(path)",
    "np.load(path, allow_pickle=True)",
    "np.load(path, allow_pickle=flag)",
    "eval(text)",
    "exec(text)",
    "compile(text, '', 'exec')",
    "__import__(name)",
    "yaml.load(text)",
    "yaml.load(text, yaml.Loader)",
    "yaml.load(text, Loader=yaml.FullLoader)",
    "class L(yaml.Loader): ...\nyaml.load(text, Loader=L)",
    "yaml.unsafe_load(text)",
    "from yaml import unsafe_load",
    "os.system(command)",
    "subprocess.run(command, shell=True)",
    "subprocess.getoutput(command)",
    "AutoModel.from_pretrained(name, trust_remote_code=True)",
    "AutoModel.from_pretrained(name, trust_remote_code=trusted)",
]
ALLOWED = [
    "model.eval()",
    "yaml.safe_load(text)",
    "class L(yaml.SafeLoader): ...\nyaml.load(text, Loader=L)",
    "np.load(path, allow_pickle=False)",
    "subprocess.run(['git', 'status'])",
    "re.compile(text)",
]
MARK = "from pathlib import Path\nPath({marker!r}).write_text('it ran')\n"


@pytest.mark.parametrize("source", FORBIDDEN)
def test_the_scan_finds(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize("source", ALLOWED)
def test_the_scan_lets_pass(source: str) -> None:
    assert not dangers(source)


def test_no_module_can_run_what_it_reads(repository: Path) -> None:
    modules = [path for folder in ("lofi", "bench") for path in sorted((repository / folder).rglob("*.py"))]
    assert len(modules) > 200
    found = {str(path.relative_to(repository)): dangers(path.read_text()) for path in modules}
    assert not {path: dangers for path, dangers in found.items() if dangers}


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.getpid []", "!!python/name:os.system", "!!python/object:lofi.cell.Cell {}", "!x y"],
)
def test_yaml_makes_no_objects(tag: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(f"models: {tag}\n")
    with pytest.raises(UserError, match="line 1: not valid YAML: could not determine a constructor"):
        load(tmp_path / "sweep.yaml")


CARD = {
    "title": "Planted",
    "source": "planted",
    "split": "test",
    "columns": ["id", "image", "question", "answer"],
    "image": "image",
    "question": "question",
    "target": "answer",
    "sample_id": "{id}",
    "task": "open",
    "scorer": "gqa",
    "max_new_tokens": 4,
    "prompts": {"plain": "{question}"},
}


def planted(folder: Path, marker: Path, *, rows: int) -> Path:
    """A dataset in a folder of the hub's form, with code beside its rows, or with a loading script in their place."""
    folder.mkdir()
    for name in ("dataset", "load", "__init__", *([] if rows else [folder.name])):
        (folder / f"{name}.py").write_text(MARK.format(marker=str(marker)))
    (folder / "README.md").write_text("---\ntrust_remote_code: true\nconfigs:\n- config_name: default\n---\n")
    if rows:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "black.png")
        content = {"bytes": (folder / "black.png").read_bytes(), "path": None}
        (folder / "black.png").unlink()
        (folder / "README.md").unlink()
        asked = [{"id": str(i), "image": content, "question": "?", "answer": "no"} for i in range(rows)]
        pq.write_table(pa.Table.from_pylist(asked), folder / "test-00000-of-00001.parquet")
    return folder


def test_a_datasets_own_code_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    card = card_from("planted", CARD)
    beside = planted(tmp_path / "beside", marker, rows=2)
    prepare(card, tmp_path / "out", prompt_style="plain", source=str(beside))
    assert pq.ParquetFile(tmp_path / "out" / "docs.parquet").metadata.num_rows == 2
    alone = planted(tmp_path / "alone", marker, rows=0)
    with pytest.raises(UserError, match="it is a script, and no code of a dataset is run"):
        prepare(card, tmp_path / "none", prompt_style="plain", source=str(alone))
    assert not marker.exists()


def test_a_checkpoints_own_code_and_pickles_are_not_run(tiny_model: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "marker", shutil.copytree(tiny_model, tmp_path / "model")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        described = json.loads((folder / name).read_text())
        kinds = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor")
        described["auto_map"] = {kind: "planted.Planted" for kind in kinds}
        (folder / name).write_text(json.dumps(described))
    (folder / "planted.py").write_text(MARK.format(marker=str(marker)))
    # protocol 0 of pickle: os.mkdir(marker)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR.")
    model, processor = load_pretrained(str(folder))
    assert type(model).__module__.startswith("transformers.models.")
    assert type(processor).__module__.startswith(("transformers.models.", "lofi.models."))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="loads weights from safetensors only"):
        load_pretrained(str(folder))
    assert not marker.exists()


def test_a_conversation_template_reaches_nothing_of_python(tiny_model: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (tmp_path / "escape.jinja").write_text(escape)
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(escape)
    for model, template in ((tiny_model, str(tmp_path / "escape.jinja")), (folder, None)):
        with pytest.raises(UserError, match="access to attribute '__class__' of 'str' object is unsafe"):
            load_pretrained(str(model), template=template)
