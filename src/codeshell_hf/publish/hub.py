"""Pushes folders to the Hub: blobs first, then one commit, so that an interrupted push changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants

from ..errors import DataError
from ..loading import find_hub_failure
from .settings import PushSettings

STALE = {"model": ("*.safetensors", "*.safetensors.index.json", "manifests/*"), "dataset": ("data/*", "manifests/*")}


def push_folders(folders: Mapping[str, Path], push: PushSettings) -> list[str]:
    """Pushes each folder in one commit; "model" last, so that its card's links to the others exist.

    Returns:
        Lines with the address of each commit or pull request.

    Raises:
        DataError: If the Hub cannot be reached, or refuses.
    """
    if failure := find_hub_failure():
        raise DataError(
            f"{constants.ENDPOINT} cannot be reached ({failure}), so nothing was pushed; run it again with a network"
        )
    repositories = {"dataset": push.dataset, "tokenizer": push.tokenizer, "model": push.repository}
    return [
        f"{name} pushed to "
        + push_folder(folders[name], repository, push, kind="dataset" if name == "dataset" else "model")
        for name, repository in repositories.items()
        if name in folders and repository is not None
    ]


def push_folder(
    folder: Path, repository: str, push: PushSettings, *, kind: Literal["model", "dataset"] = "model"
) -> str:
    """Pushes a folder in one commit; blobs that the Hub has are not sent again.

    The same commit deletes weights, data and manifests of an earlier push that the folder no longer has.

    Args:
        folder: The folder to push.
        repository: owner/name.
        push: Branch, visibility and message; its repositories are not used here.
        kind: Type of the repository.

    Returns:
        The address of the commit or pull request.

    Raises:
        DataError: If the Hub refuses or the connection is lost. The repository is then unchanged, and uploaded blobs
            stay on the Hub for the next try.
    """
    api = HfApi()
    try:
        api.create_repo(repository, repo_type=kind, private=push.private, exist_ok=True)
        if push.revision is not None and not push.pull_request:
            api.create_branch(repository, repo_type=kind, branch=push.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            revision=push.revision,
            create_pr=push.pull_request,
            commit_message=push.message,
            # With fewer shards than last time, old ones would be loaded beside the new.
            delete_patterns=list(STALE[kind]),
        )
    except Exception as error:  # its HTTP library's own, which changes, among them
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(
            f"{repository} refuses ({reason}); log in with `hf auth login`, or run it again: uploaded files are kept"
        ) from error
    return str(commit.pr_url or commit.commit_url)
