"""Bringing a hub model onto this machine, once; compute jobs then run without a network."""

from pathlib import Path

from lofi.errors import UserError
from lofi.models.facts import missing_weights, model_folder

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
        raise UserError(f"model {source!r} cannot be downloaded: {_reason(error, revision)}") from None


def _reason(error: Exception, revision: str | None) -> str:
    """Why, and what to do. Nothing that a server has said is repeated: it may quote the token."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return "it is gated; accept its licence on the hub, and set HF_TOKEN to a token of yours"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision!r}; give a commit, branch or tag of it"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "the hub has none of this name, or hides it; correct the name, or set HF_TOKEN to a token that may see it"
        )
    if isinstance(error, HfHubHTTPError):
        return f"the hub answers with status {error.response.status_code}; try again later, or give a local folder"
    return f"{type(error).__name__}; give a local folder, or run this where there is a network and space on the disk"
