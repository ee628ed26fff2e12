"""Packs curated documents into token shards, a process a core; a run that was stopped resumes with what it has."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from codeshell_hf.pack.settings import Perturbation, RepositorySettings
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.text.shards import Header

LANGUAGES_SHOWN = 12
# A folder of shards of its own, which mixtures name.
REPOSITORIES = "repositories"


class Settings(StageSettings):
    """Settings of packing."""

    documents: Path = Field(description="output of curate")
    tokenizer: Path = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="what to pack, a folder each")
    row_tokens: tuple[int, ...] = Field(default=(2048, 8192), description="rows whose use is reported")
    perturbation: Perturbation | None = Field(default=None, description="small changes of syntax; null: none")
    repositories: RepositorySettings | None = Field(
        default=None, description="training documents that join the files of a repository, as well; null: none"
    )
    workers: int | None = Field(
        default=None, gt=0, description="processes that encode; null: by size, up to one a core"
    )


def run(settings: Settings, work: Work) -> None:
    """Writes one folder of shards a split."""
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import TiktokenEncoder, choose_encoder
    from codeshell_hf.pack.encoding import encode_documents
    from codeshell_hf.pack.layout import describe_rows
    from codeshell_hf.pack.shards import join_shards, make_header
    from codeshell_hf.text.documents import read_documents
    from codeshell_hf.text.shards import TokenShards

    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
    header = make_header(tokenizer, settings.tokenizer)
    encoder, choice = choose_encoder(
        tokenizer, (row["text"] for row in read_documents(settings.documents, columns=["text"]))
    )
    work.report.append(choice)
    is_fast = isinstance(encoder, TiktokenEncoder)
    for split in settings.splits:
        folder = work.folder / split
        folder.mkdir(exist_ok=True)
        pieces = encode_documents(
            settings.documents,
            split,
            folder / "pieces",
            header,
            settings.tokenizer,
            is_fast=is_fast,
            perturbation=settings.perturbation,
            workers=settings.workers,
        )
        written = join_shards(pieces, folder)
        (folder / "pieces").rmdir()
        shards = TokenShards(folder)
        work.counts[split] = {
            "documents": written.documents,
            "tokens": written.tokens,
            "bytes": written.bytes,
            "tokens_by_language": shards.count_tokens(),
        }
        work.report.append(
            f"{split:<10}{written.documents:>9,} documents {written.bytes / 1e6:>9.2f} MB "
            f"{written.tokens:>12,} tokens  {written.bytes / written.tokens:.3f} bytes a token"
        )
        for row_tokens in settings.row_tokens:
            used, cut = describe_rows(shards.lengths, row_tokens)
            work.report.append(
                f"{'':<10}rows of {row_tokens}: {used:.2%} filled, {cut:.2%} of documents that fit are cut"
            )
    if settings.repositories is not None:
        pack_repositories(settings, settings.repositories, work, tokenizer, header, is_fast=is_fast)
    for language, tokens in list(work.counts[settings.splits[0]]["tokens_by_language"].items())[:LANGUAGES_SHOWN]:
        work.report.append(f"{'':<10}{language:<20}{tokens:>14,} tokens")


def pack_repositories(
    settings: Settings,
    repositories: RepositorySettings,
    work: Work,
    tokenizer: "CodeShellTokenizer",
    header: "Header",
    *,
    is_fast: bool,
) -> None:
    """Writes shards of joined training documents."""
    from codeshell_hf.errors import DataError
    from codeshell_hf.pack.encoding import TRAIN
    from codeshell_hf.pack.marks import find_marks
    from codeshell_hf.pack.repositories import join_repositories
    from codeshell_hf.pack.shards import join_shards

    marks = find_marks(tokenizer)
    if marks is None:
        raise DataError(
            f"{settings.tokenizer} has no <reponame> and <filename>, or no token for a line break, which joined "
            "documents need; set repositories to null, or pack with another tokenizer"
        )
    folder = work.folder / REPOSITORIES / TRAIN
    folder.mkdir(parents=True, exist_ok=True)
    pieces, counts = join_repositories(
        repositories.documents or settings.documents,
        TRAIN,
        folder / "pieces",
        header,
        marks,
        repositories,
        settings.tokenizer,
        is_fast=is_fast,
        workers=settings.workers,
    )
    written = join_shards(pieces, folder)
    shutil.rmtree(folder / "pieces")
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


STAGE = Stage(
    name="pack",
    settings=Settings,
    inputs=lambda settings: {
        "documents": settings.documents,
        "tokenizer": settings.tokenizer,
        **(
            {"repositories' documents": settings.repositories.documents}
            if settings.repositories and settings.repositories.documents
            else {}
        ),
    },
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
