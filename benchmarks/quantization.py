"""Cost of quantized weights: bits per byte on held-out documents, and time, compared with full precision.

python -m benchmarks.quantization runs/nano/pretrain/model runs/nano/pack/held-out
python -m benchmarks.quantization runs/nano/pretrain/model runs/nano/pack/held-out --only gguf

Each method is loaded with `from_pretrained`, as by a user, or from a GGUF file that is read back. Methods whose library
is not installed are reported as skipped.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.loading import load_model
from codeshell_hf.publish.gguf import export_gguf, rename
from codeshell_hf.text.bits_per_byte import score_documents
from codeshell_hf.text.held_out import choose_evenly
from codeshell_hf.text.shards import TokenShards


def load_quantized(folder: str, config: Any) -> CodeShellForCausalLM:
    """Loads a folder with `quantization_config`."""
    return load_model(folder, dtype=torch.float32, quantization_config=config, device_map="cpu")


def load_gguf(folder: str, kind: str) -> CodeShellForCausalLM:
    """Writes a GGUF file and builds a model from its tensors, which llama.cpp would use."""
    import gguf

    model = load_model(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.gguf"
        export_gguf(Path(folder), path, kind)
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        state = model.state_dict()
        for name, value in state.items():
            tensor = tensors[rename(name)]
            read = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            value.copy_(torch.from_numpy(read.copy()).reshape(value.shape))
    return model


def list_ways(folder: str) -> dict[str, Callable[[], CodeShellForCausalLM] | None]:
    """The methods by name; `None` if the library is missing."""
    ways: dict[str, Callable[[], CodeShellForCausalLM] | None] = {
        "float32": lambda: load_model(folder, dtype=torch.float32),
        "bfloat16": lambda: load_model(folder, dtype=torch.bfloat16),
        "gguf f16": lambda: load_gguf(folder, "f16"),
        "gguf q8_0": lambda: load_gguf(folder, "q8_0"),
        "gguf q4_0": lambda: load_gguf(folder, "q4_0"),
        "bitsandbytes int8": None,
        "bitsandbytes nf4": None,
        "torchao int8 weights": None,
        "torchao int8, dynamic": None,
        "torchao int4 weights": None,
    }
    if find_spec("bitsandbytes"):
        bits = transformers.BitsAndBytesConfig
        ways["bitsandbytes int8"] = lambda: load_quantized(folder, bits(load_in_8bit=True))
        ways["bitsandbytes nf4"] = lambda: load_quantized(
            folder, bits(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
        )
    if find_spec("torchao"):
        from torchao import quantization as ao

        configs = {
            "torchao int8 weights": ao.Int8WeightOnlyConfig(),
            "torchao int8, dynamic": ao.Int8DynamicActivationInt8WeightConfig(),
            "torchao int4 weights": ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=ao.PerGroup(32)),
        }
        for name, config in configs.items():
            ways[name] = lambda config=config: load_quantized(folder, transformers.TorchAoConfig(config))
    return ways


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("shards", type=Path, help="held-out shards that `pack` wrote")
    parser.add_argument("--max-bytes", type=int, default=100_000, help="of each language")
    parser.add_argument("--window", type=int, default=1024, help="tokens of an input")
    parser.add_argument("--only", default="", metavar="WORD", help="methods with this word in their name, and float32")
    add_output(parser)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    shards = TokenShards(options.shards)
    chosen = choose_evenly(shards.languages, shards.bytes.tolist(), max_bytes_per_language=options.max_bytes)
    documents = [(shards.languages[index], shards[index], int(shards.bytes[index])) for index in chosen]
    table = Result(
        describe_machine("torch", "bitsandbytes", "torchao"),
        [f"{len(documents)} documents, {sum(size for _, _, size in documents):,} bytes"],
        {"weights": "24", "bits/byte": "10.4f", "change": "+9.4f", "seconds": "9.1f", "bits a weight": "16"},
    ).start("benchmarks.quantization", arguments)
    full = 0.0
    for name, load in list_ways(options.model).items():
        if options.only not in name and name != "float32":
            continue
        if load is None:
            table.note(f"{name} is not installed")
            continue
        model = load().eval()
        started = time.perf_counter()
        scores = score_documents(model, documents, window_tokens=options.window, vocab_size=shards.header.vocab_size)
        seconds = time.perf_counter() - started
        measured = scores["all"].bits_per_byte
        full = full or measured
        table.add(name, measured, measured - full, seconds, count_bits(name))
        if measured > 1.2 * full:
            print(f"{name} answers something else; its loading is broken", file=sys.stderr)
            return 1
    table.keep(options.json)
    return 0


def count_bits(name: str) -> str:
    """Bits per weight in the matrices, scales included, by definition of the format."""
    return {
        "float32": "32",
        "bfloat16": "16",
        "gguf f16": "16",
        "gguf q8_0": "8.5",
        "gguf q4_0": "4.5",
        "bitsandbytes int8": "8 + row scales",
        "bitsandbytes nf4": "4.5",
        "torchao int4 weights": "4 + scales",
    }.get(name, "8 + row scales")


if __name__ == "__main__":
    sys.exit(main())
