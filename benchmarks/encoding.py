"""How much faster tiktoken encodes a corpus than HF tokenizers, for the same ids.

python -m benchmarks.encoding TOKENIZER TEXTS [--megabytes 4] [--repeats 5]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoder import make_tiktoken
from tokenizer.corpus import read_source


def time_rates(encode: Callable[[], object], megabytes: float, repeats: int) -> list[float]:
    """Measures megabytes a second of each repeat."""
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        encode()
        rates.append(megabytes / (time.perf_counter() - started))
    return rates


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    add_output(parser)
    options = parser.parse_args(arguments)
    tokenizer = CodeShellTokenizer.from_pretrained(options.tokenizer)
    encoder = make_tiktoken(tokenizer.backend_tokenizer)
    texts: list[str] = []
    size = 0
    for text in read_source(options.texts):
        if size >= options.megabytes * 1e6:
            break
        texts.append(text)
        size += len(text.encode("utf-8"))

    def encode_here() -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def encode_there() -> list[NDArray[np.uint32]]:
        return encoder(texts)["input_ids"]

    if encode_here() != [ids.tolist() for ids in encode_there()]:
        print("the ids differ; nothing is measured", file=sys.stderr)
        return 1
    table = Result(
        describe_machine("tokenizers", "tiktoken"),
        [f"{len(texts)} documents, {size / 1e6:.1f} MB, {options.repeats} repeats, the same ids from both"],
        {"MB/s": "20", "median": "10.1f", "least": "10.1f", "most": "10.1f"},
    ).start("benchmarks.encoding", arguments)
    for name, encode in (("tokenizers", encode_here), ("tiktoken", encode_there)):
        table.add_rates(name, time_rates(encode, size / 1e6, options.repeats))
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
