"""Builds the tokenizer: a BPE, a base merged with Chinese, or a unigram model; and measures it beside others."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from codeshell_hf.settings import Section
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf import CodeShellTokenizer

Draws = dict[str, Callable[[], Iterator[str]]]


class SourceSettings(Section):
    """Texts to build on."""

    name: str = Field(description="what they are called by", pattern=r"^[\w.-]+$")
    path: Path = Field(description="a .txt, .jsonl, .jsonl.gz or .parquet file, the output of curate, or a folder")
    language: str | None = Field(default=None, description="of curated documents or a folder, this language alone")
    weight: float = Field(default=1.0, gt=0, description="share of the sample, relative to the others'")


class MergedSettings(Section):
    """How a base vocabulary is merged with another language."""

    extend_with: tuple[str, ...] = Field(description="names of the sources to continue on", min_length=1)
    base: str | None = Field(
        default=None, description="tokenizer.json to start from, a path or owner/name on the Hub; null trains one here"
    )
    trained_size: int | None = Field(default=None, gt=0, description="entries of a base that is trained here")
    keeps: Literal["most-used", "all-but-chinese"] = Field(default="most-used", description="what stays of the base")
    base_size: int | None = Field(default=None, gt=0, description="entries that stay, by use on the other sources")
    keep_first: int = Field(default=0, ge=0, description="first merges that stay however rare they are")
    new_merges: Literal["beyond-ascii", "chinese"] = Field(
        default="beyond-ascii", description="what every new merge must hold; chinese leaves all other text as it was"
    )


class Settings(StageSettings):
    """Settings of the tokenizer."""

    kind: Literal["bpe", "merged", "unigram"] = Field(description="what is built")
    vocab_size: int = Field(description="all entries, 256 bytes and 20 special tokens included", gt=0)
    sources: tuple[SourceSettings, ...] = Field(description="texts to build on", min_length=1)
    sample_bytes: int = Field(gt=0, description="how much is read of all sources together, by their weights")
    merged: MergedSettings | None = Field(default=None, description="for kind merged")
    max_positions: int | None = Field(default=None, gt=0, description="longest input in tokens")
    documents: Path | None = Field(default=None, description="output of curate, whose held-out documents are measured")
    measure_on: tuple[SourceSettings, ...] = Field(default=(), description="other texts to measure on, never built on")
    compare_with: dict[str, Path] = Field(default_factory=dict, description="tokenizers to measure beside it")

    @model_validator(mode="after")
    def check(self) -> "Settings":
        """Holds the sections to each other."""
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources are called {names}; give each a name of its own")
        if (self.kind == "merged") != (self.merged is not None):
            raise ValueError(f"kind is {self.kind!r}; state the section merged for kind merged, and for no other")
        if self.merged is not None:
            unknown = sorted(set(self.merged.extend_with) - set(names))
            if unknown or set(self.merged.extend_with) == set(names):
                raise ValueError(
                    f"merged.extend_with is {list(self.merged.extend_with)}; name some of {names}, not all"
                )
            if (self.merged.base is None) == (self.merged.trained_size is None):
                raise ValueError("state either merged.base or merged.trained_size, where the base comes from")
            if (self.merged.keeps == "most-used") != (self.merged.base_size is not None):
                raise ValueError("state merged.base_size for keeps most-used, and for no other")
        return self


def run(settings: Settings, work: Work) -> None:
    """Builds, saves and measures the tokenizer.

    Args:
        settings: What to build from what.
        work: Where to write.
    """
    from tokenizer.corpus import TextSource, sample
    from tokenizer.transplant import count_rows

    sources = [TextSource(source.name, source.path, source.weight, source.language) for source in settings.sources]
    draws = sample(sources, sample_bytes=settings.sample_bytes)
    counts: dict[str, Any] = {}
    built = build(settings, draws, counts)
    built.save_pretrained(work.folder)
    work.counts = {"entries": len(built), "model_rows": count_rows(len(built)), **counts}
    work.report.append(
        f"vocabulary of {len(built):,} entries; give the model {work.counts['model_rows']:,} rows or as many as it has"
    )
    if counts:
        work.report.append(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    measure(settings, built, work)


def build(settings: Settings, draws: Draws, counts: dict[str, Any]) -> "CodeShellTokenizer":
    """Builds the tokenizer that the settings ask for.

    Args:
        settings: What to build.
        draws: Give the texts of each source.
        counts: Gets what each part contributed.

    Returns:
        The tokenizer.
    """
    from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
    from tokenizer.bpe import train_bpe, train_vocabulary, wrap_backend
    from tokenizer.merged import count_uses, drop_chinese, extend, prune
    from tokenizer.unigram import train_unigram
    from tokenizer.vocabulary import BYTES, check_size, find_base, read_vocabulary

    size, positions = settings.vocab_size, settings.max_positions
    check_size(size)
    if settings.kind == "unigram":
        return train_unigram(chain_all(draws, act="read"), vocab_size=size, max_positions=positions)
    if settings.merged is None:
        return train_bpe(chain_all(draws, act="read"), vocab_size=size, max_positions=positions, show_progress=True)

    options = settings.merged
    old = {name: draw for name, draw in draws.items() if name not in options.extend_with}
    new = {name: draw for name, draw in draws.items() if name in options.extend_with}
    if options.base is not None:
        base = read_vocabulary(find_base(options.base))
    else:
        base = train_vocabulary(chain_all(old, act="train base"), size=options.trained_size or size, show_progress=True)
    if options.keeps == "all-but-chinese":
        kept = drop_chinese(base)
    else:
        uses = count_uses(base, chain_all(old, act="count uses"))
        kept = prune(base, uses, size=options.base_size or size, keep_first=options.keep_first)
    extended = extend(
        kept,
        chain_all(new, act="extend"),
        size=size - len(SPECIAL_TOKENS),
        new_merges=options.new_merges,
        show_progress=True,
    )
    counts |= {
        "bytes": len(BYTES),
        "from_base": len(kept) - len(BYTES),
        "new": len(extended) - len(kept),
        "special": len(SPECIAL_TOKENS),
    }
    return wrap_backend(extended.make_backend(SPECIAL_TOKENS), max_positions=positions)


def chain_all(draws: Draws, *, act: str) -> Iterator[str]:
    """Gives the texts of all sources, one source after the other, under a progress bar.

    Args:
        draws: Give the texts of each.
        act: What is done with them, for the bar.

    Yields:
        Texts.
    """
    from tqdm import tqdm

    with tqdm(desc=act, unit="char", unit_scale=True) as bar:
        for name, draw in draws.items():
            bar.set_postfix_str(name)
            for text in draw():
                bar.update(len(text))
                yield text


def measure(settings: Settings, built: "CodeShellTokenizer", work: Work) -> None:
    """Measures the tokenizer and those beside it, and writes `report.json`, a picture and the table.

    Args:
        settings: What to measure on.
        built: The tokenizer.
        work: Gets measures and lines.
    """
    from codeshell_hf.text.documents import read_documents
    from tokenizer.corpus import read_source
    from tokenizer.report import compare, load_any, measure_languages, write_report

    corpora: dict[str, list[str]] = {}
    if settings.documents is not None:
        rows = list(read_documents(settings.documents, split="held-out", columns=["text", "language"]))
        corpora["held-out"] = [row["text"] for row in rows]
        pairs = ((row["language"], row["text"]) for row in rows)
        work.measures["characters_per_token"] = measure_languages(built, pairs)
    corpora |= {source.name: list(read_source(source.path, source.language)) for source in settings.measure_on}
    if not corpora:
        return
    tokenizers = {
        "built": built.backend_tokenizer,
        **{name: load_any(path) for name, path in settings.compare_with.items()},
    }
    base = next(iter(settings.compare_with), None)
    table = compare(tokenizers, corpora, base=base)
    work.report += write_report(table, work.folder, parts=work.counts, **work.measures)
    work.measures["table"] = json.loads((work.folder / "report.json").read_text(encoding="utf-8"))["table"]


def list_inputs(settings: Settings) -> dict[str, Path]:
    """Names what the stage reads.

    Args:
        settings: The settings.

    Returns:
        Paths by name.
    """
    inputs = {source.name: source.path for source in (*settings.sources, *settings.measure_on)}
    inputs |= {f"compare.{name}": path for name, path in settings.compare_with.items()}
    if settings.documents is not None:
        inputs["documents"] = settings.documents
    if settings.merged is not None and settings.merged.base is not None:
        from tokenizer.vocabulary import find_base

        inputs["base"] = find_base(settings.merged.base)
    return inputs


STAGE = Stage(
    name="tokenizer",
    settings=Settings,
    inputs=list_inputs,
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
