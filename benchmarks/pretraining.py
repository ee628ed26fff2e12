"""Speed of reading rows, and of training beside transformers' Trainer with stock Starcoder2.

python -m benchmarks.pretraining [--steps 30] [--repeats 3] [--row-tokens 256] [--micro-tokens 2048]
python -m benchmarks.pretraining --vocabulary 70144 --steps 12 --micro-tokens 4096    where the fused loss matters
python -m benchmarks.pretraining --preset codeshell-7b --layers 4 --row-tokens 2048 --micro-tokens 16384    on a GPU
python -m benchmarks.pretraining --precision float32 --nanochat ../nanochat    beside nanochat's loop too
python -m benchmarks.pretraining --rows    only the reader, on one core

Both models have the same shape, by default the nano recipe's, and train from the same weights on the same rows in one
precision, with AdamW and float32 weights, in separate processes, in turn. The benchmark stops unless both have the same
loss at each step, which starts near the logarithm of the vocabulary size and ends lower. Where other work runs beside
it, --cpu-seconds counts the seconds of the process on the processors instead of those of the clock.

A checkout of nanochat trains a model of its own kind, of the same width, layers, heads and vocabulary, on the same rows
with its own optimiser (Muon and AdamW), compiled as its script does; it does not keep documents apart. This loop then
runs with Muon as well. Limited to AVX2: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.result import RATES, Result, add_output, describe_instructions, describe_machine, list_cores

START = "start.pt"  # the weights from which both start
RENAMED = {
    "transformer.wte.": "model.embed_tokens.",
    "transformer.ln_f.": "model.norm.",
    "transformer.h.": "model.layers.",
    ".ln_1.": ".input_layernorm.",
    ".ln_2.": ".post_attention_layernorm.",
    ".attn.c_proj.": ".self_attn.o_proj.",
    ".attn.": ".self_attn.",
}
ALLOWED = {"float32": 1e-3, "bfloat16": 2e-2}  # difference of the two losses of a step, relative
VOCABULARY, DOCUMENTS = 4096, 4000  # of the reader's benchmark; in comparisons the vocabulary is an option


class _Code:
    """A stub tokenizer: texts are JSON lists of ids, with frequencies after Zipf."""

    def __call__(self, text: list[str], **kwargs: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [json.loads(one) for one in text]}


def write_documents(folder: Path, vocabulary: int = VOCABULARY) -> Any:
    """Writes shards with documents of the lengths of code: a median of 500 tokens, some of many thousands."""
    from codeshell_hf.pack.shard_writer import write_shards
    from codeshell_hf.text.shards import Header, TokenShards

    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(math.log(500), 1.2, DOCUMENTS), 10, 50_000).astype(int)
    texts = (json.dumps((rng.zipf(1.3, length) % (vocabulary - 20)).tolist()) for length in lengths)
    rows = ({"id": str(n), "language": "python", "source": "made", "text": text} for n, text in enumerate(texts))
    folder.mkdir(parents=True)
    write_shards(rows, _Code(), Header(vocabulary, vocabulary - 1, (4080, 4081, 4082), "made"), folder)
    return TokenShards(folder)


def time_rows(options: argparse.Namespace) -> int:
    """Reads rows on one core and prints tokens per second."""
    os.sched_setaffinity(0, {max(list_cores())})
    from codeshell_hf.pack.infilling import Infilling
    from codeshell_hf.pack.layout import Phase
    from codeshell_hf.pack.rows import IGNORED, Rows
    from codeshell_hf.pack.settings import InfillingSettings

    columns = {"tokens of a row": "16", "infilling": "10.1f", "M tokens/s": "12.2f", "spread": "8.0%"}
    table = Result(describe_machine(cores=f"one core of {os.cpu_count()}"), [f"{options.repeats} repeats"], columns)
    table.start("benchmarks.pretraining", options.given)
    with tempfile.TemporaryDirectory() as home:
        shards = write_documents(Path(home, "shards"))
        for row_tokens in (256, 2048, 8192):
            for infilling in (None, Infilling(InfillingSettings(rate=0.5, spm_rate=0.5, cuts={"token": 1.0}))):
                rows = Rows(shards, seed=0, phases=[Phase(0, row_tokens)], infilling=infilling)
                batch = 16_384 // row_tokens
                whole = rows.read(0, 4 * batch)
                if not np.array_equal(rows.read(2 * 16_384, batch).input_ids, whole.input_ids[2 * batch : 3 * batch]):
                    print("rows depend on how they are asked for; nothing is measured", file=sys.stderr)
                    return 1
                if (whole.labels == IGNORED).sum() == 0:
                    print("no document begins in any row; nothing is measured", file=sys.stderr)
                    return 1
                speeds = []
                for repeat in range(options.repeats):
                    started, steps = time.process_time(), 60  # other work on the machine does not count
                    for step in range(steps):
                        rows.read((repeat * steps + step) * 16_384, batch)
                    speeds.append(steps * 16_384 / (time.process_time() - started) / 1e6)
                spread = (max(speeds) - min(speeds)) / statistics.median(speeds)
                table.add(
                    f"{row_tokens:>5}", infilling.settings.rate if infilling else 0, statistics.median(speeds), spread
                )
    table.keep(options.json)
    return 0


def make_shape(options: argparse.Namespace) -> Any:
    """The configuration of both models."""
    from codeshell_hf.presets import make_config

    changes = {"n_layer": options.layers, "layer_types": None} if options.layers else {}
    changes |= {"vocab_size": options.vocabulary} if options.vocabulary else {}
    return make_config(options.preset, n_positions=max(options.row_tokens, 1024), **changes)


def shape_peer(shape: Any) -> Any:
    """Starcoder2's configuration of the same shape."""
    from transformers import Starcoder2Config

    return Starcoder2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.n_embd,
        intermediate_size=shape.n_inner,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        num_key_value_heads=shape.num_query_groups,
        max_position_embeddings=shape.n_positions,
        sliding_window=None,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def train_ours(
    home: Path, options: argparse.Namespace, optimizer: Literal["adamw", "muon"] = "adamw"
) -> dict[str, Any]:
    """Trains with this project's engine and rows."""
    steps, row_tokens, micro_tokens = options.steps, options.row_tokens, options.micro_tokens
    import torch

    from codeshell_hf.pack.layout import Phase
    from codeshell_hf.pack.row_stream import read_step
    from codeshell_hf.pack.rows import Rows
    from codeshell_hf.precision import Precision
    from codeshell_hf.text.shards import TokenShards
    from codeshell_hf.train.engine import EngineOptions, make_engine
    from codeshell_hf.train.settings import OptimizerSettings
    from codeshell_hf.train.step import accumulate_gradients
    from codeshell_hf.train.throughput import cost_token, find_peak_tflops
    from recipes.with_accelerate import join_ranks

    config = make_shape(options)
    settings = OptimizerSettings(name=optimizer, learning_rate=1e-3, matrix_learning_rate=2e-2)
    engine_options = EngineOptions(precision=Precision(options.precision))
    rows = Rows(TokenShards(home / "shards"), seed=0, phases=[Phase(0, row_tokens)], infilling=None)
    losses, times = [], []
    with join_ranks() as ranks:
        engine = make_engine(config, settings, engine_options, device=ranks.device, seed=0)
        torch.save(engine.model.state_dict(), home / START)
        for step in range(steps):
            batches = read_step(rows, step * micro_tokens, micro_tokens, micro_tokens)
            loss = accumulate_gradients(engine, batches, ranks)
            engine.step(1.0, lambda norm: True)
            losses.append(float(loss))
            times.append(options.clock())
        parameters = sum(parameter.numel() for parameter in engine.model.parameters())
        cost = cost_token(config, row_tokens)
        operations = {"causal": cost.causal, "square": cost.square, "peak": find_peak_tflops(ranks.device)}
    return {"parameters": parameters, "losses": losses, "times": times, **operations}


def rename_weights(weights: dict[str, Any], shape: Any) -> dict[str, Any]:
    """CodeShell's weights under Starcoder2's names."""
    groups = shape.num_query_groups * (shape.n_embd // shape.n_head)
    found = {}
    for own, weight in weights.items():
        name = own
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        if ".c_attn." in name:
            for part, values in zip("qkv", weight.split((shape.n_embd, groups, groups)), strict=True):
                found[name.replace(".c_attn.", f".{part}_proj.")] = values
        else:
            found[name] = weight
    return found


def train_peer(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains stock Starcoder2 with transformers' Trainer on the same rows."""
    steps, row_tokens, micro_tokens = options.steps, options.row_tokens, options.micro_tokens
    import torch
    from transformers import Starcoder2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from codeshell_hf.pack.layout import Phase
    from codeshell_hf.pack.rows import Rows
    from codeshell_hf.text.shards import TokenShards

    shape = make_shape(options)
    model = Starcoder2ForCausalLM(shape_peer(shape))
    model.load_state_dict(rename_weights(torch.load(home / START, map_location="cpu"), shape))
    rows = Rows(TokenShards(home / "shards"), seed=0, phases=[Phase(0, row_tokens)], infilling=None)
    per_step = micro_tokens // row_tokens
    times: list[float] = []

    class Examples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return steps * per_step

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            batch = rows.read(index * row_tokens, 1)
            names = ("input_ids", "position_ids", "labels")
            return {name: torch.from_numpy(getattr(batch, name)[0]) for name in names}

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            times.append(options.clock())

    arguments = TrainingArguments(
        output_dir=str(home / "trainer"),
        per_device_train_batch_size=per_step,
        max_steps=steps,
        learning_rate=1e-3,
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        bf16=options.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Examples(), callbacks=[Clock()])
    trainer._get_train_sampler = lambda *given: torch.utils.data.SequentialSampler(trainer.train_dataset)  # noqa: SLF001
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"parameters": sum(p.numel() for p in model.parameters()), "losses": losses, "times": times}


def train_muon(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """As `train_ours`, with Muon for the matrices of the blocks."""
    return train_ours(home, options, "muon")


def train_nanochat(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains nanochat's model with its optimiser, as its script's loop does, on the same rows."""
    os.environ["NANOCHAT_DTYPE"] = options.precision
    sys.path.insert(0, str(options.nanochat))
    import torch
    from nanochat.gpt import GPT, GPTConfig

    from codeshell_hf.pack.layout import Phase
    from codeshell_hf.pack.rows import IGNORED, Rows
    from codeshell_hf.text.shards import TokenShards

    torch.manual_seed(0)
    shape, device = make_shape(options), find_device()
    with torch.device("meta"):
        whole = GPT(
            GPTConfig(
                sequence_len=options.row_tokens, vocab_size=shape.vocab_size, n_layer=shape.n_layer,
                n_head=shape.n_head, n_kv_head=shape.num_query_groups, n_embd=shape.n_embd, window_pattern="L",
            )
        )  # fmt: skip
    whole.to_empty(device=device)
    whole.init_weights()
    optimizer = whole.setup_optimizer()
    model = torch.compile(whole, dynamic=False)
    rows = Rows(TokenShards(home / "shards"), seed=0, phases=[Phase(0, options.row_tokens)], infilling=None)
    losses, times = [], []
    for step in range(options.steps):
        batch = rows.read(step * options.micro_tokens, options.micro_tokens // options.row_tokens)
        targets = np.full_like(batch.labels, -1)
        targets[:, :-1] = np.where(batch.labels[:, 1:] == IGNORED, -1, batch.labels[:, 1:])
        loss = model(torch.from_numpy(batch.input_ids).to(device), torch.from_numpy(targets).to(device))
        loss.backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        losses.append(float(loss))
        times.append(options.clock())
    return {"parameters": sum(p.numel() for p in whole.parameters()), "losses": losses, "times": times}


WORKERS = {"ours": train_ours, "peer": train_peer, "muon": train_muon, "nanochat": train_nanochat}
NAMES = {
    "ours": "this loop, CodeShell", "peer": "Trainer, stock Starcoder2",
    "muon": "this loop with Muon", "nanochat": "nanochat's loop and model",
}  # fmt: skip


def find_device() -> Any:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_peak() -> int:
    """Peak memory of this process: on the GPU if there is one, else in total."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource  # Windows lacks it

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def find_fault(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference between the losses of a step."""
    return max(abs(own - other) / other for own, other in zip(ours, theirs, strict=True))


def compare(options: argparse.Namespace) -> int:
    """Trains both in turn and prints tokens per second."""
    from codeshell_hf.precision import choose_precision

    shape = make_shape(options)
    if shape.activation_function == "swiglu" or shape.sliding_window or not shape.tie_word_embeddings:
        print(
            f"no stock Starcoder2 has {options.preset}'s shape; name nano, codeshell-small or codeshell-7b",
            file=sys.stderr,
        )
        return 2
    if options.nanochat and not (options.nanochat / "nanochat" / "gpt.py").exists():
        print(f"{options.nanochat} is no checkout of nanochat; it has no nanochat/gpt.py", file=sys.stderr)
        return 2
    vocabulary = shape.vocab_size
    dtype = choose_precision(options.precision, shape, find_device(), trains=True).compute_dtype
    speeds: dict[str, list[float]] = {who: [] for who in (WORKERS if options.nanochat else ("ours", "peer"))}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        write_documents(Path(home, "shards"), vocabulary)
        for _ in range(options.repeats):
            for who in speeds:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.pretraining",
                    *options.given,
                    f"--precision={dtype}",
                    "--worker",
                    who,
                    home,
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(done.stderr[-2000:], file=sys.stderr)
                    return 1
                found[who] = json.loads(done.stdout.splitlines()[-1])
                losses, times = found[who]["losses"], found[who]["times"]
                if abs(losses[0] - math.log(vocabulary)) > 0.5 or losses[-1] >= losses[0] - 0.5:
                    print(f"{who} goes from {losses[0]:.3f} to {losses[-1]:.3f}; nothing is measured", file=sys.stderr)
                    return 1
                if who == "peer" and (fault := find_fault(found["ours"]["losses"], losses)) > ALLOWED[dtype]:
                    print(f"losses of a step differ by {fault:.1%}; nothing is measured", file=sys.stderr)
                    return 1
                warm = len(times) // 3
                speeds[who].append((len(times) - 1 - warm) * options.micro_tokens / (times[-1] - times[warm]))
    if found["ours"]["parameters"] != found["peer"]["parameters"]:
        print(
            f"the models differ: {found['ours']['parameters']:,} and {found['peer']['parameters']:,}", file=sys.stderr
        )
        return 1
    of = f"rows of {options.row_tokens}, {options.micro_tokens} tokens a step, {options.repeats} repeats"
    fault = find_fault(found["ours"]["losses"], found["peer"]["losses"])
    facts = [f"{found['ours']['parameters']:,} parameters, {dtype}, {of}; losses of a step agree within {fault:.1e}"]
    if find_device().type == "cpu":
        facts.append(describe_instructions())
    if options.nanochat:
        facts.append(f"nanochat's model has {found['nanochat']['parameters']:,} parameters")
    per = "tokens/CPU s" if options.cpu_seconds else "tokens/s"
    columns = {
        per: "27", **RATES, "peak GB": "9.2f", "first loss": "12.3f", "last": "8.3f",
        **(dict.fromkeys(("MFU", "square"), "8.1%") if options.peak_tflops or found["ours"]["peak"] else {}),
    }  # fmt: skip
    table = Result(describe_machine("torch", "transformers"), facts, columns)
    table.start("benchmarks.pretraining", options.given)
    for who in speeds:
        losses, peak = found[who]["losses"], options.peak_tflops or found["ours"]["peak"]
        kinds = ("causal", "square") if peak and who != "nanochat" else ()  # which has another model
        shares = [statistics.median(speeds[who]) * found["ours"][kind] / (peak * 1e12) for kind in kinds]
        table.add_rates(NAMES[who], speeds[who], found[who]["peak_bytes"] / 1e9, losses[0], losses[-1], *shares)
    ratios = [ours / peer for ours, peer in zip(speeds["ours"], speeds["peer"], strict=True)]  # of consecutive runs
    table.note(f"this loop is {statistics.median(ratios):.2f} times as fast, {min(ratios):.2f} to {max(ratios):.2f}")
    if options.nanochat:
        ratios = [ours / peer for ours, peer in zip(speeds["muon"], speeds["nanochat"], strict=True)]
        least, most = min(ratios), max(ratios)
        table.note(f"with Muon {statistics.median(ratios):.2f} times as fast as nanochat, {least:.2f} to {most:.2f}")
    table.keep(options.json)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretraining", description=__doc__)
    parser.add_argument("--rows", action="store_true", help="the reader alone")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, help="instead of the preset's")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"], help="of both")
    parser.add_argument("--layers", type=int, help="instead of the preset's")
    parser.add_argument("--cpu-seconds", action="store_true", help="of each process, instead of those of the clock")
    parser.add_argument("--nanochat", type=Path, help="a checkout of it, which is trained beside")
    parser.add_argument("--peak-tflops", type=float, help="of a device that is not known")
    add_output(parser)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    options.clock = time.process_time if options.cpu_seconds else time.perf_counter
    if options.worker:
        who, home = options.worker
        result = WORKERS[who](Path(home), options)
        print(json.dumps({**result, "peak_bytes": find_peak()}))
        return 0
    return time_rows(options) if options.rows else compare(options)


if __name__ == "__main__":
    sys.exit(main())
