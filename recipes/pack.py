"""Packs curated documents into token shards, a process a core; a run that was stopped resumes with what it has."""

import sys
from pathlib import Path

from pydantic import Field

from codeshell_hf.pack.settings import Perturbation
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

LANGUAGES_SHOWN = 12


class Settings(StageSettings):
    """Settings of packing."""

    documents: Path = Field(description="output of curate")
    tokenizer: Path = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="what to pack, a folder each")
    row_tokens: tuple[int, ...] = Field(default=(2048, 8192), description="rows whose use is reported")
    perturbation: Perturbation | None = Field(default=None, description="small changes of syntax; null: none")
    workers: int | None = Field(
        default=None, gt=0, description="processes that encode; null: by size, up to one a core"
    )


def run(settings: Settings, work: Work) -> None:
    """Writes one folder of shards a split."""
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import TiktokenEncoder, choose_encoder
    from codeshell_hf.pack.encoding import encode_documents
    from codeshell_hf.pack.rows import describe_rows
    from codeshell_hf.pack.shards import join_shards, make_header
    from codeshell_hf.text.documents import read_documents
    from codeshell_hf.text.shards import TokenShards

    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
    header = make_header(tokenizer, settings.tokenizer)
    encoder, choice = choose_encoder(
        tokenizer, (row["text"] for row in read_documents(settings.documents, columns=["text"]))
    )
    work.report.append(choice)
    for split in settings.splits:
        folder = work.folder / split
        folder.mkdir(exist_ok=True)
        pieces = encode_documents(
            settings.documents,
            split,
            folder / "pieces",
            header,
            settings.tokenizer,
            is_fast=isinstance(encoder, TiktokenEncoder),
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
            work.report.append(f"{'':<10}rows of {row_tokens}: {used:.2%} of tokens used, {cut:.1%} of documents cut")
    for language, tokens in list(work.counts[settings.splits[0]]["tokens_by_language"].items())[:LANGUAGES_SHOWN]:
        work.report.append(f"{'':<10}{language:<20}{tokens:>14,} tokens")


STAGE = Stage(
    name="pack",
    settings=Settings,
    inputs=lambda settings: {"documents": settings.documents, "tokenizer": settings.tokenizer},
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
