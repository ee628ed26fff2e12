"""Characters a token by what a vocabulary's entries may not cross.

python -m benchmarks.splits BUILT... --on UNSEEN... [--entries 50000] [--megabytes 26] [--across 10000]

A text is NAME=PATH, with a weight behind a colon where it is built on: python=lib:2.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoder import TiktokenEncoder, choose_encoder
from tokenizer.bpe import train_across_words, train_bpe
from tokenizer.corpus import chain_all, read_source, sample
from tokenizer.settings import TextSource

CHARACTERS = 2_000_000  # of an unseen text


def parse_source(text: str) -> TextSource:
    """Reads NAME=PATH or NAME=PATH:WEIGHT."""
    name, _, rest = text.partition("=")
    found = re.fullmatch(r"(.+?)(?::([\d.]+))?", rest)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=PATH")
    return TextSource(name=name, path=Path(found[1]), weight=float(found[2] or 1))


def build(
    sources: list[TextSource], *, entries: int, megabytes: float, across: int
) -> Iterator[tuple[str, CodeShellTokenizer]]:
    """Builds one vocabulary a split on the same texts; without entries across words if they are 0."""
    samples = sample(sources, sample_bytes=int(megabytes * 1e6))
    yield "StarCoder's", train_bpe(chain_all(samples, step="starcoder"), vocab_size=entries, split="starcoder")
    yield "GPT-4's, single digits", train_bpe(chain_all(samples, step="gpt4"), vocab_size=entries, split="gpt4")
    if across:
        yield (
            f"  {across:,} across words",
            train_across_words(
                lambda step: chain_all(samples, step=step), vocab_size=entries, across=across, split="gpt4"
            ),
        )


def read_start(source: TextSource) -> list[str]:
    """The first two million characters of a text."""
    texts: list[str] = []
    for text in read_source(source.path):
        texts.append(text)
        if sum(map(len, texts)) >= CHARACTERS:
            break
    return texts


def count_tokens(tokenizer: CodeShellTokenizer, texts: list[str]) -> int:
    """Counts tokens, with tiktoken where it gives the same ids."""
    encoder, _ = choose_encoder(tokenizer, texts)
    return sum(
        map(len, encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splits", description=__doc__)
    parser.add_argument("built", type=parse_source, nargs="+", help="texts to build on")
    parser.add_argument("--on", type=parse_source, nargs="+", required=True, help="texts to measure on")
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--megabytes", type=float, default=26)
    parser.add_argument("--across", type=int, default=10_000, help="entries across words, of all; 0 for none")
    add_output(parser)
    options = parser.parse_args(arguments)
    unseen = {source.name: read_start(source) for source in options.on}
    columns = {"split": "26"} | dict.fromkeys(unseen, "12.3f") | {"tiktoken": "12"}
    table = Result(
        describe_machine("tokenizers", "tiktoken"),
        [f"{options.entries:,} entries of {options.megabytes:g} MB, characters a token on texts not built on"],
        columns,
    ).start("benchmarks.splits", arguments)
    first: list[float] = []
    for name, tokenizer in build(
        options.built, entries=options.entries, megabytes=options.megabytes, across=options.across
    ):
        ratios = [sum(map(len, texts)) / count_tokens(tokenizer, texts) for texts in unseen.values()]
        encoder, _ = choose_encoder(tokenizer, [text for texts in unseen.values() for text in texts])
        table.add(name, *ratios, "same ids" if isinstance(encoder, TiktokenEncoder) else "differs")
        if first:
            changes = zip(unseen, ratios, first, strict=True)
            table.note(
                f"{name.strip()}: " + ", ".join(f"{text} {one / start - 1:+.1%}" for text, one, start in changes)
            )
        first = first or ratios
        table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
