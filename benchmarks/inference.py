"""Forward, prefill and decoding beside stock Starcoder2 and Llama of the same shape.

python -m benchmarks.inference [--presets nano codeshell-small codeshell-7b] [--layers 2] [--repeats 5]
python -m benchmarks.inference --original FOLDER [--original-python PYTHON] [--original-site FOLDER]

The models have random weights and take turns within each repeat. First, each must give the same logits with a cache as
without one. FOLDER has the original CodeShell code; PYTHON, or a folder of packages, is an environment that runs it
(transformers 4.36). It is measured in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
COLUMNS = {
    "tokens/s": "62", **dict.fromkeys(("here", *PEERS), "11,.0f"), "/ S": "8.2f", "/ L": "8.2f", "spread": "7.0%"
}  # fmt: skip
# Layers of the large presets; the smallest has all of its layers.
LAYERS = {"codeshell-small": 2, "codeshell-7b": 1}
ORIGINAL = """
import importlib, json, os, statistics, sys, time
import torch
# Its modules import each other relatively.
parent, name = os.path.split(os.path.abspath(sys.argv[1]))
sys.path.insert(0, parent)
CodeShellConfig = importlib.import_module(name + ".configuration_codeshell").CodeShellConfig
CodeShellForCausalLM = importlib.import_module(name + ".modeling_codeshell").CodeShellForCausalLM
shape, prompt, new, batch, repeats, device, dtype = json.loads(sys.argv[2])
def now():
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
torch.manual_seed(0)
with torch.device(device):
    model = CodeShellForCausalLM(CodeShellConfig(**shape)).to(getattr(torch, dtype)).eval()
    ids = torch.randint(0, shape["vocab_size"], (batch, prompt))
out = {"prefill": [], "decode": []}
with torch.no_grad():
    for _ in range(repeats + 1):
        start = now()
        mask = torch.ones(batch, prompt + new, dtype=torch.long, device=device)  # as `generate` gives one
        answer = model(ids, attention_mask=mask[:, :prompt], use_cache=True)
        out["prefill"].append(now() - start)
        cache = "cache" if "cache" in answer else "past_key_values"
        past, token = answer[cache], answer.logits[:, -1:].argmax(-1)
        start = now()
        for step in range(new):
            answer = model(token, attention_mask=mask[:, : prompt + step + 1], **{cache: past}, use_cache=True)
            past, token = answer[cache], answer.logits[:, -1:].argmax(-1)
        out["decode"].append((now() - start) / new)
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
    # Three matrices instead of two, with the same number of parameters.
    llama = LlamaConfig(**common, intermediate_size=inner * 2 // 3)
    made = {}
    for name, kind, settings in (
        ("codeshell_hf", CodeShellForCausalLM, config),
        ("Starcoder2", Starcoder2ForCausalLM, starcoder),
        ("Llama", LlamaForCausalLM, llama),
    ):
        with torch.device(device):  # initialised there: billions of random numbers take a CPU most of a minute
            made[name] = kind(settings).to(dtype).eval()
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
    """Computes all logits."""
    model(ids, use_cache=False)
    return ids.numel()


@torch.no_grad()
def prefill(model: Any, ids: torch.Tensor) -> int:
    """Fills a cache and computes the last logits."""
    model(ids, **{CACHE_NAME: DynamicCache(config=model.config)}, use_cache=True, logits_to_keep=1)
    return ids.numel()


@torch.no_grad()
def decode(model: Any, ids: torch.Tensor, new: int, *, step: Any = None, is_static: bool = False) -> tuple[float, int]:
    """Generates greedily after a prompt; returns the seconds without the prefill."""
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
    """Measures one shape; returns false if a model's cache is wrong."""
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
    """Measures the models in turn: tokens per second of each, our ratio to each peer, and the largest spread."""
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name, model in models.items():
            seconds, tokens = run(model)
            if repeat:  # the first turn warms up
                speeds[name].append(tokens / seconds)
    return [
        *map(statistics.median, speeds.values()),
        # Ratios within a turn, so that a slowdown of the machine affects both.
        *(
            statistics.median(ours / theirs for ours, theirs in zip(speeds["codeshell_hf"], speeds[peer], strict=True))
            for peer in PEERS
        ),
        max((max(values) - min(values)) / statistics.median(values) for values in speeds.values()),
    ]


def compare_original(preset: str, options: argparse.Namespace) -> Iterator[tuple[str, float, float]]:
    """Measures prefill and decoding of one shape: yields a name, our tokens per second and the original code's."""
    layers = options.layers or LAYERS.get(preset)
    length, new = options.prompt, options.new
    config = make_config(preset, n_positions=length + new + 1, **({"n_layer": layers} if layers else {}))
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_query_groups", "n_inner")
    shape = {name: getattr(config, name) for name in names}
    # Its own defaults are GPT-2's.
    shape |= {"position_embedding_type": "rope", "group_query_attention": True}
    with torch.device(options.device):
        model = CodeShellForCausalLM(config).to(getattr(torch, options.dtype)).eval()
    for batch in options.batches:
        given = json.dumps([shape, length, new, batch, options.repeats, options.device, options.dtype])
        site = {"PYTHONPATH": str(options.original_site)} if options.original_site else {}
        done = subprocess.run(
            [options.original_python, "-c", ORIGINAL, str(options.original), given],
            stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **site},
        )  # fmt: skip
        theirs = json.loads(done.stdout.splitlines()[-1])
        ids = torch.randint(0, config.vocab_size, (batch, length), device=options.device)
        ways: dict[str, Callable[[], tuple[float, int]]] = {
            "prefill": lambda ids=ids: timed(lambda: prefill(model, ids), options.device),
            "decode": lambda ids=ids: decode(model, ids, new),
        }
        for way, run in ways.items():
            run()
            seconds = statistics.median(run()[0] for _ in range(options.repeats))
            tokens = batch * (length if way == "prefill" else new)
            other = theirs[way] * (1 if way == "prefill" else new)
            yield f"{batch}x{length}, {way}", tokens / seconds, tokens / other


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the options, and finds the device."""
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
    parser.add_argument("--original-python", default=sys.executable, help="the Python of an environment that runs it")
    parser.add_argument("--original-site", type=Path, help="a folder of packages that go before that Python's own")
    add_output(parser)
    options = parser.parse_args(arguments)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    options = read_options(arguments)
    facts = [f"{options.dtype}, {options.repeats} repeats; medians, our share of each peer's, and the largest spread"]
    table = Result(describe_machine("torch", "transformers"), facts, COLUMNS).start("benchmarks.inference", arguments)
    for preset in options.presets:
        if not measure_preset(preset, options, table):
            return 1
        for what, ours, theirs in compare_original(preset, options) if options.original else ():
            table.note(f"{preset} {what}: {ours / theirs:.2f} times as fast as the original code")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
