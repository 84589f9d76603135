"""Bringing a hub model onto this machine, once; compute jobs then run without a network."""

from pathlib import Path

from lofi.errors import UserError
from lofi.models.facts import model_folder

# weights only as safetensors: nothing that could run code when it is loaded
FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def fetch_model(source: str, revision: str | None) -> Path:
    """The local folder of a model, downloaded into the hub cache if it is a hub id that is not there yet."""
    folder = model_folder(source, revision)
    if folder is not None and any(folder.glob("*.safetensors")):
        return folder
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:  # no network, no such model, no permission
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model {source!r} cannot be downloaded ({reason}); give a local folder or a network") from None
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model {source!r} has no safetensors weights, and lofi loads nothing else")
    return folder
