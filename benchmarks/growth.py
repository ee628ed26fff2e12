"""Time of each stage by the size of its input, over three sizes, each twice the one before.

python -m benchmarks.growth [--megabytes 2] [--output benchmarks/growth.svg]

The stages run as usual, on files of the standard library and installed packages; seconds are from their manifests.
Stages that grow faster than n log n are reported.
"""

import argparse
import contextlib
import importlib
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.near_duplicates import read_texts
from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf.stages.stage import main as run

ROOT = Path(__file__).parents[1]
SIZES = (1, 2, 4)
# Tolerance above n log n, since cores and disk are shared.
NOISE = 1.3


def write_corpus(folder: Path, megabytes: float) -> float:
    """Writes texts as JSON Lines, and returns their size in megabytes."""
    folder.mkdir(parents=True)
    texts = read_texts(megabytes)
    rows = [{"content": text.decode(), "path": f"{number}.py"} for number, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return sum(map(len, texts)) / 1e6


def list_stages(home: Path, size: int, megabytes: float) -> dict[str, list[str]]:
    """The settings of each stage that differ from nano's."""
    outputs = {name: f"{home}/{name}" for name in ("curate", "tokenizer", "pack", "pretrain", "sft", "evaluate")}
    conversations = home / "conversations.jsonl"
    lines = (ROOT / "recipes/nano/data/tasks-tuning.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    conversations.write_text("".join(lines[: 120 * size]), encoding="utf-8")
    source = {"name": "texts", "path": str(home / "texts"), "kind": "jsonl"}
    return {
        "curate": [
            f"output={outputs['curate']}", f"sources={json.dumps([source])}", "min_language_bytes=0", "quality=null",
            "rights.licences=null", "held_out_fraction=0.1",
        ],
        "tokenizer": [
            f"output={outputs['tokenizer']}", "kind=bpe", "merged=null", "vocab_size=1024",
            f"sources={json.dumps([{'name': 'code', 'path': outputs['curate'], 'weight': 1}])}",
            f"sample_bytes={round(megabytes * 1e6)}", f"documents={outputs['curate']}",
        ],
        "pack": [
            f"output={outputs['pack']}", f"documents={outputs['curate']}", f"tokenizer={outputs['tokenizer']}",
        ],
        "pretrain": [
            f"output={outputs['pretrain']}", f"shards={outputs['pack']}", f"tokenizer={outputs['tokenizer']}",
            "model.changes={vocab_size: 1024}", f"schedule.total_tokens={65_536 * size}",
            "schedule.warmup_tokens=8192", "schedule.max_epochs=9.0", "evaluation={max_bytes_per_language: 10000}",
        ],
        "sft": [
            f"output={outputs['sft']}", f"model={outputs['pretrain']}/model", f"conversations=[{conversations}]",
            "trainer.num_train_epochs=1",
        ],
        "evaluate": [
            f"output={outputs['evaluate']}", f"models={{base: {outputs['pretrain']}/model}}", "tasks={}",
            "harness=null", "infilling=null", "memorisation=null", f"documents={outputs['curate']}",
            f"shards={outputs['pack']}", f"bits_per_byte.max_bytes_per_language={60_000 * size}",
        ],
    }  # fmt: skip


def run_stage(name: str, overrides: list[str], home: Path) -> float:
    """Runs a stage, and returns the seconds in its manifest."""
    arguments = [str(ROOT / f"recipes/nano/{name}.yaml"), *overrides]
    if name == "sft":  # accelerate remembers a process's first settings
        command = [sys.executable, "-m", f"recipes.{name}", *arguments]
        code = subprocess.run(command, capture_output=True, cwd=ROOT, check=False).returncode
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(importlib.import_module(f"recipes.{name}").STAGE, arguments)
    if code:
        raise SystemExit(f"{name} failed, and nothing is measured")
    return float(json.loads((home / name / "manifest.json").read_text(encoding="utf-8"))["wall_s"])


def draw(seconds: dict[str, list[float]], sizes: list[float], path: Path) -> None:
    """Plots seconds by size, with a line of linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, values in seconds.items():
        axes.plot(sizes, values, marker="o", label=name)
    axes.plot(sizes, [next(iter(seconds.values()))[0] * size / sizes[0] for size in sizes], "k:", label="in proportion")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("input, as a multiple of the smallest")
    axes.set_ylabel("seconds of the stage")
    axes.legend(frameon=False)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n\n")[0])
    parser.add_argument("--megabytes", type=float, default=2.0, help="of the smallest corpus")
    parser.add_argument("--stages", nargs="+", help="these alone, and what they need must be among them")
    parser.add_argument("--output", type=Path, help="drawing to write")
    add_output(parser)
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES:
            home = Path(place, str(size))
            megabytes = write_corpus(home / "texts", options.megabytes * size)
            for name, overrides in list_stages(home, size, megabytes).items():
                if options.stages and name not in options.stages:
                    continue
                seconds.setdefault(name, []).append(run_stage(name, overrides, home))
    table = Result(
        describe_machine("torch"),
        [f"{options.megabytes:g} MB of Python at 1x"],
        {"seconds over": "14", **{f"{size}x": "9.1f" for size in SIZES}, "2x to 4x": "10.2f"},
    ).start("benchmarks.growth", arguments)
    faults = []
    for name, values in seconds.items():
        grows = values[-1] / values[-2]
        allowed = 2 * math.log(4e6 * options.megabytes) / math.log(2e6 * options.megabytes) * NOISE
        faults += [name] if grows > allowed else []
        table.add(name, *values, grows)
    table.keep(options.json)
    if options.output:
        draw(seconds, [float(size) for size in SIZES], options.output)
    if faults:
        print(f"{', '.join(faults)} grows faster than its input times its logarithm", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
