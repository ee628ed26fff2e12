"""Packs curated documents into token shards, a process a core; a run that was stopped goes on with what it has."""

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf.pack.shards import Document
    from codeshell_hf.text.shards import Header

LANGUAGES_SHOWN = 12
WORTH_A_WORKER = 64_000_000  # bytes of compressed Parquet
TRAIN = "train"  # held-out documents stay as they are


class PerturbationSettings(Section):
    """Small changes of syntax, as augmentation."""

    rate: float = Field(gt=0, le=1, description="share of training documents in known languages that are changed")
    seed: int = Field(default=0, ge=0, description="decides which, and how")


class Settings(StageSettings):
    """Settings of packing."""

    documents: Path = Field(description="output of curate")
    tokenizer: Path = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="what to pack, a folder each")
    row_tokens: tuple[int, ...] = Field(default=(2048, 8192), description="rows whose use the report tells")
    perturbation: PerturbationSettings | None = Field(default=None, description="small changes of syntax; null: none")
    workers: int | None = Field(
        default=None, gt=0, description="processes that encode; null: by size, up to one a core"
    )


def run(settings: Settings, work: Work) -> None:
    """Writes one folder of shards a split.

    Args:
        settings: What to pack.
        work: Where to write.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.manifest import hash_input
    from codeshell_hf.pack.encoder import TiktokenEncoder, choose_encoder
    from codeshell_hf.pack.rows import describe_rows
    from codeshell_hf.pack.shards import join_shards
    from codeshell_hf.text.documents import read_documents
    from codeshell_hf.text.shards import Header, TokenShards

    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
    vocabulary = tokenizer.get_vocab()
    sentinels = tuple(vocabulary.get(f"<fim_{part}>", -1) for part in ("prefix", "middle", "suffix"))
    header = Header(
        vocab_size=len(tokenizer),
        end_of_text=tokenizer.eos_token_id,
        sentinels=None if -1 in sentinels else (sentinels[0], sentinels[1], sentinels[2]),
        tokenizer=hash_input(settings.tokenizer),
    )
    sample = (row["text"] for row in read_documents(settings.documents, columns=["text"]))
    encoder, choice = choose_encoder(tokenizer, sample)
    is_fast = isinstance(encoder, TiktokenEncoder)
    work.report.append(choice)
    for split in settings.splits:
        folder = work.folder / split
        folder.mkdir(exist_ok=True)
        written = join_shards(encode_parts(settings, header, split, folder / "pieces", is_fast=is_fast), folder)
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


def encode_parts(settings: Settings, header: "Header", split: str, folder: Path, *, is_fast: bool) -> list[Path]:
    """Encodes each file of curated documents, many at a time.

    Args:
        settings: What to pack.
        header: What is known of the shards.
        split: Of the documents.
        folder: Where the pieces lie; those that are there stay.
        is_fast: Whether tiktoken encodes.

    Returns:
        Folders of pieces, in the order of their documents.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from tqdm import tqdm

    from codeshell_hf.processors import count_usable_cpus
    from codeshell_hf.text.documents import list_parts

    parts = list_parts(settings.documents)
    tasks: list[dict[str, Any]] = [
        {
            "part": part,
            "split": split,
            "piece": folder / part.stem,
            "header": header,
            "tokenizer": settings.tokenizer,
            "is_fast": is_fast,
            "perturbation": settings.perturbation.model_dump() if settings.perturbation and split == TRAIN else None,
        }
        for part in parts
    ]
    left = [task for task in tasks if not task["piece"].exists()]
    folder.mkdir(exist_ok=True)
    # A process takes seconds to start, and tiktoken has threads of its own.
    worth = max(1, sum(part.stat().st_size for part in parts) // WORTH_A_WORKER)
    workers = min(settings.workers or min(count_usable_cpus(), worth), max(len(left), 1))
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc=f"pack {split}", unit="part") as bar:
        if workers == 1:
            for task in left:
                encode_part(task)
                bar.update()
        else:
            # Spawned: a forked process would share the locks of libraries that are already running threads.
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                for done in as_completed([pool.submit(encode_part, task) for task in left]):
                    done.result()
                    bar.update()
    return [task["piece"] for task in tasks]


@functools.cache
def load_encoder(tokenizer: Path, *, is_fast: bool) -> Any:
    """Loads what encodes, once a process.

    Args:
        tokenizer: The tokenizer's folder.
        is_fast: Whether tiktoken does its work.

    Returns:
        The encoder.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import make_tiktoken

    loaded = CodeShellTokenizer.from_pretrained(tokenizer)
    return make_tiktoken(loaded) if is_fast else loaded


def encode_part(task: dict[str, Any]) -> None:
    """Encodes one file of curated documents into a piece that is whole or absent.

    Args:
        task: `part`, `split`, `piece`, `header`, `tokenizer`, `is_fast` and `perturbation`.
    """
    import shutil

    from codeshell_hf.pack.perturbation import Perturbation, perturb
    from codeshell_hf.pack.shards import write_shards
    from codeshell_hf.text.documents import read_part

    part, piece = task["part"], task["piece"]
    encoder = load_encoder(task["tokenizer"], is_fast=task["is_fast"])
    aside = piece.with_name(f".{piece.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    read = read_part(part, split=task["split"], columns=["id", "language", "source", "text"])
    rows = (cast("Document", row) for row in read)
    if task["perturbation"] is not None:
        options = Perturbation(**task["perturbation"])
        rows = (
            cast("Document", {**row, "text": perturb(row["text"], row["language"], row["id"], options)}) for row in rows
        )
    write_shards(rows, encoder, task["header"], aside)
    aside.rename(piece)


STAGE = Stage(
    name="pack",
    settings=Settings,
    inputs=lambda settings: {"documents": settings.documents, "tokenizer": settings.tokenizer},
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
