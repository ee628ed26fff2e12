"""Builds a tokenizer: a BPE, a base extended with Chinese, or a unigram model; and compares it with others."""

import sys
from functools import partial
from typing import Literal

from pydantic import Field, model_validator

from codeshell_hf.settings import InputPath
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main
from tokenizer.settings import Bpe, Merged, TextSource


class Settings(StageSettings):
    """Settings of the tokenizer."""

    kind: Literal["bpe", "merged", "unigram"] = Field(description="kind of vocabulary")
    vocab_size: int = Field(description="all entries, 256 bytes and 20 special tokens included", gt=0)
    sources: tuple[TextSource, ...] = Field(description="texts to train on", min_length=1)
    sample_bytes: int = Field(gt=0, description="size of the sample, drawn from the sources by their weights")
    merged: Merged | None = Field(default=None, description="for kind merged")
    bpe: Bpe | None = Field(default=None, description="for kind bpe; null is StarCoder's split, within words")
    max_positions: int | None = Field(default=None, gt=0, description="longest input in tokens")
    documents: InputPath | None = Field(
        default=None, description="output of curate, whose held-out documents are measured"
    )
    measure_on: tuple[TextSource, ...] = Field(default=(), description="texts for measurements only, never trained on")
    compare_with: dict[str, InputPath] = Field(
        default_factory=dict, description="tokenizers to compare it with, by name"
    )

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources are called {names}; give each a different name")
        if (self.kind == "merged") != (self.merged is not None):
            raise ValueError(f"kind is {self.kind!r}; state the section merged for kind merged, and for no other")
        if self.bpe is not None and self.kind != "bpe":
            raise ValueError(f"kind is {self.kind!r}; state the section bpe for kind bpe, and for no other")
        if self.bpe is not None and (self.bpe.across_words or 0) >= self.vocab_size:
            raise ValueError(f"bpe.across_words is {self.bpe.across_words} of {self.vocab_size} entries; lower it")
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
    """Builds, saves and measures the tokenizer."""
    from tokenizer.bpe import train_across_words, train_bpe
    from tokenizer.corpus import chain_all, sample
    from tokenizer.coverage import count_sources
    from tokenizer.merged import train_merged
    from tokenizer.report import read_corpora, write_measures
    from tokenizer.transplant import count_rows
    from tokenizer.unigram import train_unigram

    once = settings.merged.extend_with if settings.merged is not None else ()
    samples = sample(settings.sources, sample_bytes=settings.sample_bytes, once=once)
    size, positions = settings.vocab_size, settings.max_positions
    origins: dict[str, int] = {}
    if settings.merged is not None:
        built, origins = train_merged(samples, settings.merged, vocab_size=size, max_positions=positions)
    elif settings.kind == "unigram":
        built = train_unigram(lambda: chain_all(samples, step="read"), vocab_size=size, max_positions=positions)
    else:
        bpe = settings.bpe or Bpe()
        train = (
            partial(train_bpe, chain_all(samples, step="read"))
            if bpe.across_words is None
            else partial(train_across_words, lambda step: chain_all(samples, step=step), across=bpe.across_words)
        )
        built = train(vocab_size=size, split=bpe.split, max_positions=positions, show_progress=True)
    built.save_pretrained(work.folder)

    work.counts = {"entries": len(built), "model_rows": count_rows(len(built)), **origins}
    work.report.append(
        f"vocabulary of {len(built):,} entries; the model's vocab_size should be {work.counts['model_rows']:,} or more"
    )
    if settings.merged is not None:
        new = {name: samples[name] for name in settings.merged.extend_with}
        first = origins["bytes"] + origins["from_base"]
        held = count_sources(built.backend_tokenizer, new, first=first)
        work.measures["new_entries_by_sources"] = held
        work.report.append("new entries by sources that use them: " + ", ".join(f"{n}: {k:,}" for n, k in held.items()))
        work.report.append(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in origins.items()))
    corpora, measures = read_corpora(built, settings.documents, settings.measure_on)
    work.measures |= measures
    if corpora:
        table, lines = write_measures(built, settings.compare_with, corpora, work.folder, work.counts, measures)
        work.report += lines
        work.measures["table"] = table


STAGE = Stage(name="tokenizer", settings=Settings, run=run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
