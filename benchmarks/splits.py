"""Characters per token, and bits per byte of small models, by pre-tokenizer of the vocabulary.

python -m benchmarks.splits BUILT... --on UNSEEN... [--entries 50000] [--megabytes 26] [--across 10000]

A text is NAME=PATH; training texts may have a weight after a colon: python=lib:2. With `--train FOLDER --documents
CURATED`, models of nano's shape are trained in FOLDER with each vocabulary on the same bytes of text, with nano's
recipe without fill-in-the-middle. `--tokens` is for the first vocabulary; the others get as many as this text needs.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine
from benchmarks.training import add_training, list_pretraining, run_stage
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoder import choose_encoder
from codeshell_hf.text.shards import read_contents
from codeshell_hf.text.tiktoken_encoder import TiktokenEncoder
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
    """Trains a vocabulary per pre-tokenizer on the same texts, and one across words unless its entries are 0."""
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
    """Counts tokens, with tiktoken if it gives the same ids."""
    encoder, _ = choose_encoder(tokenizer, texts)
    return sum(
        map(len, encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    )


def pack(tokenizer: CodeShellTokenizer, options: argparse.Namespace, number: int) -> Path:
    """Packs the documents with a vocabulary, and returns the folder of both."""
    home: Path = options.train / str(number)
    tokenizer.save_pretrained(home / "tokenizer")
    run_stage("pack", [f"output={home}/pack", f"documents={options.documents}", f"tokenizer={home}/tokenizer"])
    return home


def list_runs(home: Path, options: argparse.Namespace) -> list[list[str]]:
    """Settings of the models of one vocabulary, one per seed."""
    of_first = read_contents(options.train / "0" / "pack" / "train").header
    own = read_contents(home / "pack" / "train").header
    # The same share of an epoch, and so the same bytes.
    tokens = round(options.tokens * own.tokens / of_first.tokens)
    data = [
        f"shards={home}/pack", f"tokenizer={home}/tokenizer", "infilling=null",
        f"model.changes.vocab_size={own.vocab_size}",
    ]  # fmt: skip
    return [
        [*data, *list_pretraining(options, home / f"pretrain-{seed}", seed=seed, tokens=tokens)]
        for seed in range(options.seeds)
    ]


def train(home: Path, options: argparse.Namespace) -> tuple[list[float], int]:
    """Trains the models of one vocabulary; returns bits per byte on held-out documents, and training tokens."""
    measured = []
    for seed, overrides in enumerate(list_runs(home, options)):
        run_stage("pretrain", overrides)
        manifest = json.loads((home / f"pretrain-{seed}" / "manifest.json").read_text(encoding="utf-8"))
        measured.append(float(manifest["measures"]["bits_per_byte_after"]["all"]))
    return measured, int(manifest["counts"]["tokens"])


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splits", description=__doc__)
    parser.add_argument("built", type=parse_source, nargs="+", help="texts to build on")
    parser.add_argument("--on", type=parse_source, nargs="+", required=True, help="texts to measure on")
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--megabytes", type=float, default=26)
    parser.add_argument("--across", type=int, default=10_000, help="entries across words, of all; 0 for none")
    parser.add_argument("--train", type=Path, help="folder for models of each vocabulary; else none is trained")
    parser.add_argument("--documents", type=Path, help="output of curate to train them on")
    add_training(parser, tokens=348_160, step_tokens=2048)
    add_output(parser)
    options = parser.parse_args(arguments)
    if (options.train is None) != (options.documents is None):
        parser.error("--train and --documents belong together")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    options = read_options(arguments)
    unseen = {source.name: read_start(source) for source in options.on}
    columns = {"split": "26"} | dict.fromkeys(unseen, "12.3f") | {"tiktoken": "12"}
    columns |= {"bits/byte": "11.4f", "tokens": "14,.0f"} if options.train else {}
    table = Result(
        describe_machine("tokenizers", "tiktoken"),
        [f"{options.entries:,} entries of {options.megabytes:g} MB, characters a token on texts not built on"],
        columns,
    ).start("benchmarks.splits", arguments)
    first: list[float] = []
    vocabularies = build(options.built, entries=options.entries, megabytes=options.megabytes, across=options.across)
    for number, (name, tokenizer) in enumerate(vocabularies):
        ratios = [sum(map(len, texts)) / count_tokens(tokenizer, texts) for texts in unseen.values()]
        encoder, _ = choose_encoder(tokenizer, [text for texts in unseen.values() for text in texts])
        bits, tokens = train(pack(tokenizer, options, number), options) if options.train else ([], 0)
        more = [sum(bits) / len(bits), tokens] if bits else []
        table.add(name, *ratios, "same ids" if isinstance(encoder, TiktokenEncoder) else "differs", *more)
        if bits:
            table.note(f"{name.strip()}: bits per byte by seed {', '.join(f'{one:.4f}' for one in bits)}")
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
