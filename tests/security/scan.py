"""What Python code must not do here, found in its syntax tree."""

import ast
from collections.abc import Iterator

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "pty"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    ("torch", "load"): "unpickles",
    ("torch", "save"): "pickles",
    ("pd", "read_pickle"): "unpickles",
    ("pandas", "read_pickle"): "unpickles",
    ("yaml", "unsafe_load"): "makes any object",
    ("yaml", "full_load"): "makes objects",
    ("yaml", "load_all"): "takes any loader",
    ("os", "system"): "runs a shell",
    ("os", "popen"): "runs a shell",
    ("subprocess", "getoutput"): "runs a shell",
    ("subprocess", "getstatusoutput"): "runs a shell",
}
ONLY_FALSE = {"shell", "trust_remote_code", "allow_pickle"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}


def dangers(source: str) -> list[str]:
    """Everything in a module that could run what it reads, as `line: what`."""
    tree = ast.parse(source)
    safe = SAFE_LOADERS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} == {"yaml.SafeLoader"}
    }
    found = [(node.lineno, what) for node in ast.walk(tree) for what in _in_node(node, safe)]
    return [f"{line}: {what}" for line, what in sorted(found)]


def _in_node(node: ast.AST, safe: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"imports {name.name}" for name in node.names if name.name.split(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module:
        if node.module.split(".")[0] in MODULES:
            yield f"imports {node.module}"
        for name in node.names:  # `from torch import load` would hide from the rules about calls
            if (node.module, name.name) in CALLS or (node.module, name.name) == ("yaml", "load"):
                yield f"imports {node.module}.{name.name}"
    elif isinstance(node, ast.Call):
        yield from _in_call(node, safe)


def _in_call(node: ast.Call, safe: set[str]) -> Iterator[str]:
    called = ast.unparse(node.func)
    if isinstance(node.func, ast.Name) and called in BUILTINS:
        yield f"calls {called}"
    if (*called.split("."),) in CALLS:
        yield f"calls {called}, which {CALLS[(*called.split('.'),)]}"
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    yield from (f"{key}={keywords[key]}" for key in ONLY_FALSE & keywords.keys() if keywords[key] != "False")
    if keywords.get("weights_only") == "False":
        yield "weights_only=False"
    if called == "yaml.load":
        loader = keywords.get("Loader") or (ast.unparse(node.args[1]) if len(node.args) > 1 else "")
        if loader.removeprefix("yaml.") not in safe:
            yield f"calls yaml.load with {loader or 'no loader'}"
