"""Characters a token, and bits per byte of a small model, by what a vocabulary's entries may not cross.

python -m benchmarks.splits BUILT... --on UNSEEN... [--entries 50000] [--megabytes 26] [--across 10000]

A text is NAME=PATH, with a weight behind a colon where it is built on: python=lib:2. With --documents, the output of
curate, nano's model is pretrained with each vocabulary on the same bytes: give --entries 4096, which its embedding has.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoder import TiktokenEncoder, choose_encoder
from tokenizer.bpe import train_across_words, train_bpe
from tokenizer.corpus import chain_all, read_source, sample
from tokenizer.settings import TextSource

ROOT = Path(__file__).parents[1]
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


def count_bytes_a_token(tokenizer: CodeShellTokenizer, documents: Path) -> float:
    """Bytes a token of the documents to train on."""
    texts = list(read_source(documents))
    return sum(len(text.encode("utf-8")) for text in texts) / count_tokens(tokenizer, texts)


def train(tokenizer: CodeShellTokenizer, documents: Path, tokens: int, changes: list[str]) -> float:
    """Packs and pretrains by nano's recipe; gives bits per byte of the held-out documents."""
    from codeshell_hf.stages.stage import main
    from recipes.pack import STAGE as PACK
    from recipes.pretrain import STAGE as PRETRAIN

    nano = ROOT / "recipes" / "nano"
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        tokenizer.save_pretrained(folder / "tokenizer")
        shared = f"tokenizer={folder}/tokenizer"
        runs = (
            (PACK, "pack.yaml", f"output={folder}/pack", f"documents={documents}"),
            (PRETRAIN, "pretrain.yaml", f"output={folder}/pretrain", f"shards={folder}/pack",
             f"schedule.total_tokens={tokens}", *changes),
        )  # fmt: skip
        for stage, settings, *more in runs:
            if main(stage, [str(nano / settings), shared, *more]):
                raise SystemExit(1)
        manifest = json.loads((folder / "pretrain" / "manifest.json").read_text(encoding="utf-8"))
    bits: float = manifest["measures"]["bits_per_byte_after"]["all"]
    return bits


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splits", description=__doc__)
    parser.add_argument("built", type=parse_source, nargs="+", help="texts to build on")
    parser.add_argument("--on", type=parse_source, nargs="+", required=True, help="texts to measure on")
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--megabytes", type=float, default=26)
    parser.add_argument("--across", type=int, default=10_000, help="entries across words, of all; 0 for none")
    parser.add_argument("--documents", type=Path, help="output of curate, to train nano's model on")
    parser.add_argument("--tokens", type=int, default=348_160, help="of the first vocabulary to train on")
    parser.add_argument("--change", nargs="*", default=[], help="of nano's pretrain.yaml, as model.changes.n_layer=1")
    add_output(parser)
    options = parser.parse_args(arguments)
    unseen = {source.name: read_start(source) for source in options.on}
    columns = {"split": "26"} | dict.fromkeys(unseen, "12.3f") | {"tiktoken": "12"}
    columns |= {"bits a byte": "13.3f", "trained on": "12,.0f"} if options.documents else {}
    table = Result(
        describe_machine("tokenizers", "tiktoken"),
        [f"{options.entries:,} entries of {options.megabytes:g} MB, characters a token on texts not built on"],
        columns,
    ).start("benchmarks.splits", arguments)
    first: list[float] = []
    trained_bytes = 0.0
    for name, tokenizer in build(
        options.built, entries=options.entries, megabytes=options.megabytes, across=options.across
    ):
        ratios = [sum(map(len, texts)) / count_tokens(tokenizer, texts) for texts in unseen.values()]
        encoder, _ = choose_encoder(tokenizer, [text for texts in unseen.values() for text in texts])
        more: list[float] = []
        if options.documents:
            bytes_a_token = count_bytes_a_token(tokenizer, options.documents)
            trained_bytes = trained_bytes or options.tokens * bytes_a_token
            tokens = round(trained_bytes / bytes_a_token)
            more += [train(tokenizer, options.documents, tokens, options.change), tokens]
        table.add(name, *ratios, "same ids" if isinstance(encoder, TiktokenEncoder) else "differs", *more)
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
