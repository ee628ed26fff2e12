"""Packs curated documents into token shards."""

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from recipes.stage import Stage, StageSettings, Work, main


class Settings(StageSettings):
    """Settings of packing."""

    documents: Path = Field(description="output of curate")
    tokenizer: Path = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    splits: tuple[str, ...] = Field(default=("train", "held-out"), description="what to pack, a folder each")


def run(settings: Settings, work: Work) -> None:
    """Writes one folder of shards a split.

    Args:
        settings: What to pack.
        work: Where to write.
    """
    from tqdm import tqdm

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.curate.documents import read_documents
    from codeshell_hf.manifest import hash_input
    from codeshell_hf.pack.encoder import choose_encoder
    from codeshell_hf.pack.shards import Header, TokenShards, write_shards

    tokenizer = CodeShellTokenizer.from_pretrained(settings.tokenizer)
    vocabulary = tokenizer.get_vocab()
    sentinels = tuple(vocabulary.get(f"<fim_{part}>", -1) for part in ("prefix", "middle", "suffix"))
    header = Header(
        vocab_size=len(tokenizer),
        end_of_text=tokenizer.eos_token_id,
        sentinels=None if -1 in sentinels else (sentinels[0], sentinels[1], sentinels[2]),
        tokenizer=hash_input(settings.tokenizer),
    )

    def read(split: str, bar: tqdm) -> Iterator[dict[str, str]]:
        for row in read_documents(settings.documents, split=split, columns=["id", "language", "text", "bytes"]):
            bar.update(row["bytes"])
            yield row

    sample = (row["text"] for row in read_documents(settings.documents, columns=["text"]))
    encoder, choice = choose_encoder(tokenizer, sample)
    work.report.append(choice)
    for split in settings.splits:
        folder = work.folder / split
        folder.mkdir(exist_ok=True)
        with tqdm(desc=f"pack {split}", unit="B", unit_scale=True) as bar:
            written = write_shards(read(split, bar), encoder, header, folder)
        work.counts[split] = {
            "documents": written.documents,
            "tokens": written.tokens,
            "bytes": written.bytes,
            "tokens_by_language": TokenShards(folder).count_tokens(),
        }
        work.report.append(
            f"{split:<10}{written.documents:>9,} documents {written.bytes / 1e6:>9.2f} MB "
            f"{written.tokens:>12,} tokens  {written.bytes / written.tokens:.3f} bytes a token"
        )


STAGE = Stage(
    name="pack",
    settings=Settings,
    inputs=lambda settings: {"documents": settings.documents, "tokenizer": settings.tokenizer},
    run=run,
    code=("src/codeshell_hf/pack/shards.py", "src/codeshell_hf/pack/encoder.py"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
