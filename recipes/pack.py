"""Packs documents or conversations into token shards, in several processes; a stopped run keeps finished parts."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, PositiveInt, model_validator

from codeshell_hf.pack.settings import Perturbation, RepositorySettings
from codeshell_hf.settings import InputPath
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.text.shards import Header, ShardPart

LANGUAGES_SHOWN = 12
# Separate shards, which can be named in a mixture.
REPOSITORIES = "repositories"
TRAIN = "train"


class Settings(StageSettings):
    """Settings of packing."""

    documents: InputPath | None = Field(default=None, description="output of curate")
    conversations: tuple[InputPath, ...] = Field(
        default=(), description="JSON Lines with messages, in place of documents, in the chat format of sft"
    )
    tokenizer: InputPath = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="splits to pack, each into a folder")
    row_tokens: tuple[int, ...] = Field(default=(2048, 8192), description="row lengths whose use is reported")
    perturbation: Perturbation | None = Field(
        default=None, description="augmentation that keeps the syntax tree; null: none"
    )
    repositories: RepositorySettings | None = Field(
        default=None, description="additional repository-level training documents; null: none"
    )
    part_bytes: int = Field(default=64_000_000, gt=0, description="bytes of the files that become one token file")
    workers: int | None = Field(
        default=None, gt=0, description="number of processes; null: by size, up to one per core"
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
    from codeshell_hf.text.shards import TokenShards

    headers = join_splits(settings, work) if settings.shares else encode_splits(settings, work)
    for split, written in headers.items():
        if not written.tokens and not settings.share:
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
    for language, tokens in list(work.counts[settings.splits[0]]["tokens_by_language"].items())[:LANGUAGES_SHOWN]:
        work.report.append(f"{'':<10}{language:<20}{tokens:>14,} tokens")


def join_splits(settings: Settings, work: Work) -> "dict[str, Header]":
    """Joins the shares of each split; returns the header of each folder of shards."""
    from codeshell_hf.pack.shares import check_shares, join_shares

    check_shares(settings.shares)
    return {split: join_shares(settings.shares, split, work.folder / split) for split in settings.splits}


def encode_splits(settings: Settings, work: Work) -> "dict[str, Header]":
    """Encodes documents, and joined ones if `repositories` is set; returns the header of each folder of shards."""
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import choose_encoder
    from codeshell_hf.pack.encoding import encode_documents
    from codeshell_hf.pack.repositories import SCRATCH
    from codeshell_hf.pack.shard_writer import drop_records, make_header, write_contents
    from codeshell_hf.text.documents import read_documents
    from codeshell_hf.text.tiktoken_encoder import TiktokenEncoder

    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
    header = make_header(tokenizer, settings.tokenizer)
    is_fast = False
    if settings.documents is not None:
        sample = (row["text"] for row in read_documents(settings.documents, columns=["text"]))
        encoder, choice = choose_encoder(tokenizer, sample)
        work.report.append(choice)
        is_fast = isinstance(encoder, TiktokenEncoder)
    folders = {split: work.folder / split for split in settings.splits}
    parts = encode_documents(
        settings.documents or settings.conversations,
        folders,
        header,
        settings.tokenizer,
        part_bytes=settings.part_bytes,
        is_fast=is_fast,
        perturbation=settings.perturbation,
        workers=settings.workers,
        share=settings.share or (1, 1),
    )
    headers = {split: write_contents(parts[split], header, folder) for split, folder in folders.items()}
    if settings.repositories is not None and settings.documents is not None:
        name = f"{REPOSITORIES}/{TRAIN}"
        joined = settings.repositories.documents or settings.documents
        packed = pack_repositories(settings, settings.repositories, joined, work, tokenizer, header, is_fast=is_fast)
        parts[name], headers[name] = packed
    # Last, since a run that is stopped before resumes by the records.
    for split, written in parts.items():
        drop_records(written, work.folder / split)
    shutil.rmtree(work.folder / REPOSITORIES / TRAIN / SCRATCH, ignore_errors=True)
    return headers


def pack_repositories(
    settings: Settings,
    repositories: RepositorySettings,
    documents: Path,
    work: Work,
    tokenizer: "CodeShellTokenizer",
    header: "Header",
    *,
    is_fast: bool,
) -> "tuple[list[ShardPart], Header]":
    """Writes shards of repository-level training documents; returns their parts, whose records are kept, and header."""
    from codeshell_hf.pack.marks import require_marks
    from codeshell_hf.pack.repositories import join_repositories
    from codeshell_hf.pack.shard_writer import write_contents

    folder = work.folder / REPOSITORIES / TRAIN
    parts, counts = join_repositories(
        documents,
        TRAIN,
        folder,
        header,
        require_marks(tokenizer, settings.tokenizer),
        repositories,
        settings.tokenizer,
        is_fast=is_fast,
        workers=settings.workers,
    )
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
