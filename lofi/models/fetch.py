"""Bringing a hub model onto this machine, once; compute jobs then run without a network."""

from pathlib import Path

from lofi.errors import UserError
from lofi.models.facts import missing_weights, model_folder
from lofi.refusals import refusal

# weights only as safetensors: nothing that could run code when it is loaded
WEIGHTS = ("*.safetensors",)
OTHERS = ("*.json", "*.jinja", "*.txt", "*.model")


def fetch_model(source: str, revision: str | None) -> Path:
    """The local folder of a model, downloaded into the hub cache if it is a hub id that is not wholly there yet.

    The hub's client takes the token for a gated model from HF_TOKEN in the environment; nothing else of lofi does.
    """
    folder = model_folder(source, revision)
    if folder is None or (folder.parent.name == "snapshots" and missing_weights(folder)):
        folder = _download(source, revision, OTHERS + WEIGHTS)
    if missing := missing_weights(folder):
        raise UserError(f"model {source!r} has no {missing[0]}; lofi loads weights from safetensors and nothing else")
    return folder


def fetch_description(source: str, revision: str | None) -> Path:
    """The same without weights: some megabytes that say what the model is, such as config.json."""
    return model_folder(source, revision) or _download(source, revision, OTHERS)


def _download(source: str, revision: str | None, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # of the hub, of the network and of the disk, from several libraries
        raise UserError(f"model {source!r} cannot be downloaded: {refusal(error, revision)}") from None
