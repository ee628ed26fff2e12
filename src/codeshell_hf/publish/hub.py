"""Pushes folders to the Hub: blobs first, then one commit, so that a push that dies changes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..errors import DataError

STALE = {"model": ("*.safetensors", "*.safetensors.index.json", "manifests/*"), "dataset": ("data/*", "manifests/*")}


@dataclass(frozen=True)
class Destination:
    """Where to push.

    Args:
        repository: owner/name.
        kind: What it is on the Hub.
        private: Whether only its owner sees it; holds where the repository is new.
        revision: The branch, made where it is not there; `None` is the main one.
        pull_request: Whether a pull request is opened in place of a commit on the branch.
        message: The commit's subject.
    """

    repository: str
    kind: Literal["model", "dataset"] = "model"
    private: bool = True
    revision: str | None = None
    pull_request: bool = False
    message: str = "Publish with codeshell-hf"


def push_folder(folder: Path, destination: Destination) -> str:
    """Pushes a folder, all files in one commit. Blobs that the Hub has are not sent again.

    Weights, data and manifests that were there and are no longer part of the folder go in the same commit.

    Args:
        folder: What to push.
        destination: Where to.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        DataError: If the Hub refuses or is lost; the repository is as it was, and what was sent is kept there.
    """
    api = HfApi()
    name, kind = destination.repository, destination.kind
    try:
        api.create_repo(name, repo_type=kind, private=destination.private, exist_ok=True)
        if destination.revision is not None and not destination.pull_request:
            api.create_branch(name, repo_type=kind, branch=destination.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            repo_type=kind,
            folder_path=folder,
            revision=destination.revision,
            create_pr=destination.pull_request,
            commit_message=destination.message,
            # Fewer shards than last time: what is left of the old ones would be loaded beside the new.
            delete_patterns=list(STALE[kind]),
        )
    except (HfHubHTTPError, HFValidationError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(
            f"{name} refuses ({reason}); log in with `hf auth login`, or run it again: what was sent is kept"
        ) from error
    return str(commit.pr_url or commit.commit_url)
