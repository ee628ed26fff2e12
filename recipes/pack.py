"""Packs documents or conversations into token shards, in several processes; a stopped run keeps finished parts."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, PositiveInt, model_validator

from codeshell_hf.pack.settings import EncodingSettings, RepositorySettings
from codeshell_hf.settings import InputPath
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.text.shards import Header, ShardPart

LANGUAGES_SHOWN = 12
# Separate shards, which can be named in a mixture.
REPOSITORIES = "repositories"
TRAIN = "train"


class Settings(StageSettings, EncodingSettings):
    """Settings of packing."""

    documents: InputPath | None = Field(default=None, description="output of curate")
    conversations: tuple[InputPath, ...] = Field(
        default=(), description="JSON Lines with messages, in place of documents, in the chat format of sft"
    )
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="splits to pack, each into a folder")
    row_tokens: tuple[int, ...] = Field(default=(2048, 8192), description="row lengths whose use is reported")
    repositories: RepositorySettings | None = Field(
        default=None, description="additional repository-level training documents; null: none"
    )
    share: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="share to pack on this machine: [3, 16] is the third of 16; null: all"
    )
    shares: tuple[InputPath, ...] = Field(
        default=(), description="outputs of pack for all shares, in order; they are joined, and nothing is encoded"
    )

    @model_validator(mode="after")
    def _check_conversations(self) -> Self:
        if (self.documents is None) != bool(self.conversations):
            raise ValueError("state either documents or conversations, which are packed apart")
        others = ("perturbation", "repositories", "share", "shares")
        if self.conversations and (given := [name for name in others if getattr(self, name)]):
            raise ValueError(f"conversations and {given[0]} are both set; {given[0]} is for documents, so remove one")
        if self.conversations and self.splits != (TRAIN,):
            raise ValueError(f"splits is {list(self.splits)}, but no conversation is held out; set splits: [train]")
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.share and self.share[0] > self.share[1]:
            raise ValueError(f"share is {list(self.share)}; its first number is at most its second")
        if self.share and self.shares:
            raise ValueError("share and shares are both set; shares joins outputs that were packed with share")
        if self.repositories and (self.share or self.shares):
            raise ValueError("repositories need all documents; pack them without share and shares")
        return self


def run(settings: Settings, work: Work) -> None:
    """Writes a folder of shards per split, and one of repository-level documents if `repositories` is set."""
    from codeshell_hf.errors import DataError
    from codeshell_hf.pack.layout import describe_rows
    from codeshell_hf.pack.shares import check_shares, join_shares
    from codeshell_hf.text.shards import TokenShards

    splits, share, shares = settings.splits, settings.share, settings.shares
    if shares:
        check_shares(shares)
        headers = {split: join_shares(shares, split, work.folder / split) for split in splits}
    else:
        documents = settings.documents or settings.conversations
        headers = encode_splits(documents, splits, settings, settings.repositories, share, work)
    for split, written in headers.items():
        if not written.tokens and not share:
            raise DataError(f"no document of {split} has a token; curate other sources, or leave it out of splits")
        shards = TokenShards(work.folder / split)
        work.hashes |= {f"{split}/{name}": digest for name, digest in shards.list_hashes().items()}
        if split.startswith(REPOSITORIES):
            continue
        work.counts[split] = {
            "documents": written.documents,
            "tokens": written.tokens,
            "bytes": written.bytes,
            "tokens_by_language": shards.count_tokens(),
        }
        work.report.append(
            f"{split:<10}{written.documents:>9,} documents {written.bytes / 1e6:>9.2f} MB "
            f"{written.tokens:>12,} tokens  {written.bytes / max(written.tokens, 1):.3f} bytes a token"
        )
        for row_tokens in settings.row_tokens if written.documents else ():
            used, cut = describe_rows(shards.lengths, row_tokens)
            work.report.append(
                f"{'':<10}rows of {row_tokens}: {used:.2%} filled, {cut:.2%} of documents that fit are cut, "
                "without infilling"
            )
    for language, tokens in list(work.counts[splits[0]]["tokens_by_language"].items())[:LANGUAGES_SHOWN]:
        work.report.append(f"{'':<10}{language:<20}{tokens:>14,} tokens")


def encode_splits(
    documents: Path | Sequence[Path],
    splits: Sequence[str],
    encoding: EncodingSettings,
    repositories: RepositorySettings | None,
    share: tuple[int, int] | None,
    work: Work,
) -> "dict[str, Header]":
    """Encodes documents, and joined ones if `repositories` is set; returns the header of each folder of shards.

    Args:
        documents: Output of curate, or files of conversations.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import choose_encoder
    from codeshell_hf.pack.encoding import encode_documents
    from codeshell_hf.pack.repositories import SCRATCH
    from codeshell_hf.pack.shard_writer import drop_records, make_header, write_contents
    from codeshell_hf.text.documents import read_documents
    from codeshell_hf.text.tiktoken_encoder import TiktokenEncoder

    tokenizer = CodeShellTokenizer.from_pretrained(encoding.tokenizer)
    header = make_header(tokenizer, encoding.tokenizer)
    is_fast = False
    if isinstance(documents, Path):
        sample = (row["text"] for row in read_documents(documents, columns=["text"]))
        encoder, choice = choose_encoder(tokenizer, sample)
        work.report.append(choice)
        is_fast = isinstance(encoder, TiktokenEncoder)
    folders = {split: work.folder / split for split in splits}
    parts = encode_documents(documents, folders, header, encoding, is_fast=is_fast, share=share or (1, 1))
    headers = {split: write_contents(parts[split], header, folder) for split, folder in folders.items()}
    if repositories is not None and isinstance(documents, Path):
        name = f"{REPOSITORIES}/{TRAIN}"
        joined = repositories.documents or documents
        packed = pack_repositories(joined, repositories, encoding, tokenizer, header, work, is_fast=is_fast)
        parts[name], headers[name] = packed
    # Last, since a run that is stopped before resumes by the records.
    for split, written in parts.items():
        drop_records(written, work.folder / split)
    shutil.rmtree(work.folder / REPOSITORIES / TRAIN / SCRATCH, ignore_errors=True)
    return headers


def pack_repositories(
    documents: Path,
    repositories: RepositorySettings,
    encoding: EncodingSettings,
    tokenizer: "CodeShellTokenizer",
    header: "Header",
    work: Work,
    *,
    is_fast: bool,
) -> "tuple[list[ShardPart], Header]":
    """Writes shards of repository-level training documents; returns their parts, whose records are kept, and header."""
    from codeshell_hf.pack.marks import require_marks
    from codeshell_hf.pack.repositories import join_repositories
    from codeshell_hf.pack.shard_writer import write_contents

    folder = work.folder / REPOSITORIES / TRAIN
    marks = require_marks(tokenizer, encoding.tokenizer)
    parts, counts = join_repositories(
        documents, TRAIN, folder, header, marks, repositories, encoding.tokenizer,
        is_fast=is_fast, workers=encoding.workers,
    )  # fmt: skip
    written = write_contents(parts, header, folder)
    work.counts[REPOSITORIES] = {
        "repositories": counts.repositories,
        "near": counts.near,
        "documents": written.documents,
        "tokens": written.tokens,
        "bytes": written.bytes,
    }
    work.report.append(
        f"{REPOSITORIES:<10}{written.documents:>9,} documents {written.bytes / 1e6:>9.2f} MB "
        f"{written.tokens:>12,} tokens  of {counts.repositories - counts.near:,} repositories, "
        f"{counts.near:,} near others left out"
    )
    return parts, written


STAGE = Stage(name="pack", settings=Settings, run=run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
