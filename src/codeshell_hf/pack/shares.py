"""Packing on several machines: each packs a share of the parts, and the shares are joined with hard links."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from ..manifest import require_manifest
from ..text.shards import Header, TokenShards
from .shard_writer import join_parts

# Paths of documents and tokenizer may differ between machines; their contents must not, and are compared by hash.
# row_tokens only affects the report.
MAY_DIFFER = frozenset({"share", "output", "workers", "documents", "tokenizer", "row_tokens"})


def check_shares(shares: Sequence[Path]) -> None:
    """Checks that shares are complete, in order, and were packed in the same way.

    Raises:
        DataError: If one is missing, out of order, or has other documents, settings or another tokenizer.
    """
    manifests = [require_manifest(share, "pack") for share in shares]
    found = [manifest.settings.get("share") for manifest in manifests]
    expected = [[number, len(shares)] for number in range(1, len(shares) + 1)]
    if found != expected:
        raise DataError(f"shares were packed with share {found}; name those of {expected}, in this order")
    first = manifests[0]
    for share, manifest in zip(shares[1:], manifests[1:], strict=True):
        if manifest.inputs["documents"] != first.inputs["documents"]:
            raise DataError(f"{shares[0]} and {share} were packed from different documents; pack them again")
        for name in sorted((first.settings.keys() | manifest.settings.keys()) - MAY_DIFFER):
            ours, theirs = first.settings.get(name), manifest.settings.get(name)
            if ours != theirs:
                raise DataError(
                    f"{shares[0]} was packed with {name} {ours} and {share} with {theirs}; pack one of them again"
                )


def join_shares(shares: Sequence[Path], split: str, folder: Path) -> Header:
    """Joins the shares of one split; token files are linked, or copied if they are on another file system.

    Args:
        shares: Outputs of pack, in order.
        folder: Folder to write to.

    Raises:
        DataError: If one is broken, or they were packed with different tokenizers.
    """
    opened = [TokenShards(share / split) for share in shares]
    headers = {replace(shards.header, documents=0, tokens=0, bytes=0) for shards in opened}
    if len(headers) > 1:
        raise DataError(f"{shares[0]} and the other shares were packed with {len(headers)} tokenizers; use one")
    parts = [part for shards in opened for part in shards.parts]
    folder.mkdir(parents=True, exist_ok=True)
    for shards in opened:
        for part in shards.parts:
            for suffix in part.hashes:
                _link(shards.folder / f"{part.name}{suffix}", folder / f"{part.name}{suffix}")
    return join_parts(parts, headers.pop(), folder)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
