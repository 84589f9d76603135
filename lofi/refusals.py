"""Why the hub gave nothing, and what to do. Nothing that a server has said is repeated: it may quote the token."""

from collections.abc import Iterator


def refusal(error: Exception, revision: str | None) -> str:
    """The reason behind an error of the hub, of the network or of the disk, from any of the hub's libraries."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for cause in _causes(error):
        if isinstance(cause, GatedRepoError):
            return "it is gated; accept its licence on the hub, and set HF_TOKEN to a token of yours"
        if isinstance(cause, RevisionNotFoundError):
            return f"it has no revision {revision!r}; give a commit, branch or tag of it"
        if isinstance(cause, RepositoryNotFoundError):
            return (
                "the hub has none of this name, or hides it; correct the name, or set HF_TOKEN to a token that may "
                "see it"
            )
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE forbids it; unset that, or give a local folder"
        if isinstance(cause, HfHubHTTPError):
            return f"the hub answers with status {cause.response.status_code}; try again later, or give a local folder"
    return f"{type(error).__name__}; give a local folder, or run this where there is a network and space on the disk"


def is_unknown(error: Exception) -> bool:
    """Whether the hub has nothing of that name and revision, so that another name may do."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    return any(isinstance(cause, RepositoryNotFoundError | RevisionNotFoundError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
