"""Forward, prefill and decoding beside stock Starcoder2 and Llama of the same shape.

python -m benchmarks.inference [--presets nano codeshell-small codeshell-7b] [--layers 2] [--repeats 5]
python -m benchmarks.inference --original FOLDER --original-python PYTHON

The models hold random weights and take turns within each repeat. Before anything is measured, each has to give the same
logits with a cache as without one. FOLDER holds the original CodeShell code, PYTHON an environment that runs it
(transformers 4.36); it is measured in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    StaticCache,
)

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.modeling_codeshell import CACHE_NAME
from codeshell_hf.presets import make_config

PEERS = ("Starcoder2", "Llama")
# Layers of the large presets; the smallest is whole.
LAYERS = {"codeshell-small": 2, "codeshell-7b": 1}
ORIGINAL = """
import importlib, json, os, statistics, sys, time
import torch
# Its modules import each other relatively.
parent, name = os.path.split(os.path.abspath(sys.argv[1]))
sys.path.insert(0, parent)
CodeShellConfig = importlib.import_module(name + ".configuration_codeshell").CodeShellConfig
CodeShellForCausalLM = importlib.import_module(name + ".modeling_codeshell").CodeShellForCausalLM
shape, prompt, new, batch, repeats = json.loads(sys.argv[2])
torch.manual_seed(0)
model = CodeShellForCausalLM(CodeShellConfig(**shape)).eval()
ids = torch.randint(0, shape["vocab_size"], (batch, prompt))
out = {"prefill": [], "decode": []}
with torch.no_grad():
    for _ in range(repeats + 1):
        start = time.perf_counter()
        answer = model(ids, use_cache=True)
        out["prefill"].append(time.perf_counter() - start)
        cache = "cache" if "cache" in answer else "past_key_values"
        past, token = answer[cache], answer.logits[:, -1:].argmax(-1)
        start = time.perf_counter()
        for _ in range(new):
            answer = model(token, **{cache: past}, use_cache=True)
            past, token = answer[cache], answer.logits[:, -1:].argmax(-1)
        out["decode"].append((time.perf_counter() - start) / new)
print(json.dumps({name: statistics.median(values[1:]) for name, values in out.items()}))
"""


def make_models(preset: str, attention: str, layers: int | None, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Makes the three models of one shape."""
    torch.manual_seed(0)
    config = make_config(preset, **({"n_layer": layers} if layers else {}))
    width, inner = config.n_embd, config.n_inner
    common = {
        "vocab_size": config.vocab_size,
        "hidden_size": width,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.num_query_groups,
        "max_position_embeddings": config.n_positions,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    starcoder = Starcoder2Config(
        **common, intermediate_size=inner, sliding_window=None, use_bias=True, hidden_act="gelu_pytorch_tanh"
    )
    # Three matrices in place of two: as many parameters.
    llama = LlamaConfig(**common, intermediate_size=inner * 2 // 3)
    made = {}
    for name, kind, settings in (
        ("codeshell_hf", CodeShellForCausalLM, config),
        ("Starcoder2", Starcoder2ForCausalLM, starcoder),
        ("Llama", LlamaForCausalLM, llama),
    ):
        made[name] = kind(settings).to(device, dtype).eval()
        made[name].set_attn_implementation(attention)
    return made


def synchronise(device: str) -> None:
    """Waits for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def find_fault(model: Any, vocabulary: int, device: str) -> float:
    """The largest difference between logits with a cache and without one."""
    ids = torch.randint(0, vocabulary, (2, 24), generator=torch.Generator().manual_seed(1)).to(device)
    whole = model(ids, use_cache=False).logits.float()
    cache = DynamicCache(config=model.config)
    parts = [model(part, **{CACHE_NAME: cache}, use_cache=True).logits.float() for part in ids.split([16, 4, 4], dim=1)]
    return float((torch.cat(parts, dim=1) - whole).abs().max() / whole.abs().max())


@torch.no_grad()
def forward(model: Any, ids: torch.Tensor) -> int:
    """All logits at once."""
    model(ids, use_cache=False)
    return ids.numel()


@torch.no_grad()
def prefill(model: Any, ids: torch.Tensor) -> int:
    """A cache and the last logits."""
    model(ids, **{CACHE_NAME: DynamicCache(config=model.config)}, use_cache=True, logits_to_keep=1)
    return ids.numel()


@torch.no_grad()
def decode(model: Any, ids: torch.Tensor, new: int, *, step: Any = None, is_static: bool = False) -> tuple[float, int]:
    """Greedy tokens behind a prompt; gives the seconds of the decoding alone."""
    if is_static:
        cache: Any = StaticCache(config=model.config, max_cache_len=ids.shape[1] + new + 1)
    else:
        cache = DynamicCache(config=model.config)
    token = model(ids, **{CACHE_NAME: cache}, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
    step = model if step is None else step
    position = torch.full((ids.shape[0], 1), ids.shape[1], device=ids.device)
    synchronise(ids.device.type)
    started = time.perf_counter()
    for _ in range(new):
        token = (
            step(input_ids=token, position_ids=position, **{CACHE_NAME: cache}, use_cache=True)
            .logits[:, -1:]
            .argmax(-1)
        )
        position = position + 1
    synchronise(ids.device.type)
    return time.perf_counter() - started, new * ids.shape[0]


def measure_preset(preset: str, options: argparse.Namespace, table: Result) -> bool:
    """Measures one shape; false if a model is wrong."""
    layers = options.layers or LAYERS.get(preset)
    for attention in options.attention:
        models = make_models(preset, attention, layers, options.device, getattr(torch, options.dtype))
        vocabulary = models["codeshell_hf"].config.vocab_size
        faults = {name: find_fault(model, vocabulary, options.device) for name, model in models.items()}
        limit = 1e-3 if options.dtype == "float32" else 5e-2
        if max(faults.values()) > limit:
            print(f"{preset} {attention}: logits with a cache differ by {faults}; nothing is measured", file=sys.stderr)
            return False
        for batch in options.batches:
            length = min(options.prompt, models["codeshell_hf"].config.n_positions - options.new - 1)
            ids = torch.randint(0, vocabulary, (batch, length), device=options.device)
            ways: dict[str, Callable[[Any], tuple[float, int]]] = {
                "forward": lambda model, ids=ids: timed(lambda: forward(model, ids), options.device),
                "prefill": lambda model, ids=ids: timed(lambda: prefill(model, ids), options.device),
                "decode": lambda model, ids=ids: decode(model, ids, options.new),
            }
            if options.compile and attention == "sdpa":
                steps = {name: torch.compile(model, dynamic=False) for name, model in models.items()}
                owners = {id(model): steps[name] for name, model in models.items()}
                ways["decode, static cache, compiled"] = lambda model, ids=ids, owners=owners: decode(
                    model, ids, options.new, step=owners[id(model)], is_static=True
                )
            for way, run in ways.items():
                table.add(f"{preset} {attention} {batch}x{length} {way}", *compare(models, run, options.repeats))
    return True


def timed(run: Callable[[], int], device: str) -> tuple[float, int]:
    """Seconds and tokens of a call."""
    synchronise(device)
    started = time.perf_counter()
    tokens = run()
    synchronise(device)
    return time.perf_counter() - started, tokens


def compare(models: dict[str, Any], run: Any, repeats: int) -> list[float]:
    """Lets the models take turns, and gives tokens a second of each, our share of each peer's, the largest spread."""
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name, model in models.items():
            seconds, tokens = run(model)
            if repeat:  # the first turn warms up
                speeds[name].append(tokens / seconds)
    return [
        *map(statistics.median, speeds.values()),
        # Turn against turn, so that a machine that slows down slows both.
        *(
            statistics.median(ours / theirs for ours, theirs in zip(speeds["codeshell_hf"], speeds[peer], strict=True))
            for peer in PEERS
        ),
        max((max(values) - min(values)) / statistics.median(values) for values in speeds.values()),
    ]


def measure_original(options: argparse.Namespace, table: Result) -> None:
    """Measures the original code in its own environment, and ours at the same shape."""
    config = make_config("nano", n_positions=4096)
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_query_groups", "n_inner")
    shape = {name: getattr(config, name) for name in names}
    given = json.dumps([shape, 2048, options.new, 1, options.repeats])
    done = subprocess.run(
        [options.original_python, "-c", ORIGINAL, str(options.original), given],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs = json.loads(done.stdout.splitlines()[-1])
    model = CodeShellForCausalLM(config).eval()
    ids = torch.randint(0, config.vocab_size, (1, 2048))
    prefill(model, ids)
    prefilling = statistics.median(timed(lambda: prefill(model, ids), "cpu")[0] for _ in range(options.repeats))
    decoding = statistics.median(decode(model, ids, options.new)[0] / options.new for _ in range(options.repeats))
    table.note(
        f"beside the original code: prefill of 2,048 {theirs['prefill'] / prefilling:.2f} times, decoding "
        f"{theirs['decode'] / decoding:.2f} times as fast"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.split("\n\n")[0])
    parser.add_argument("--presets", nargs="+", default=["nano", "codeshell-small", "codeshell-7b"])
    parser.add_argument("--layers", type=int, help="instead of all of nano's, 2 of codeshell-small's, 1 of the 7B's")
    parser.add_argument("--attention", nargs="+", default=["eager", "sdpa"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=24, help="tokens that are decoded")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="decode with a static cache and torch.compile, too")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--original", type=Path, help="folder with the original code")
    parser.add_argument("--original-python", help="an environment that runs it")
    add_output(parser)
    options = parser.parse_args(arguments)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = [f"{options.dtype}, {options.repeats} repeats; medians, our share of each peer's, and the largest spread"]
    speeds = dict.fromkeys(["here", "Starcoder2", "Llama"], "11,.0f")
    columns = {"tokens/s": "62", **speeds, "/ S": "8.2f", "/ L": "8.2f", "spread": "7.0%"}
    table = Result(describe_machine("torch", "transformers"), facts, columns).start("benchmarks.inference", arguments)
    for preset in options.presets:
        if not measure_preset(preset, options, table):
            return 1
    if options.original:
        measure_original(options, table)
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
