"""Start-up time: the import beside transformers' own, every `--help`, every preset, and loading a checkpoint.

python -m benchmarks.startup [--repeats 7] [--megabytes 1000]

Imports and `--help` are separate processes, in turn. Presets are built on the meta device. Loading a sharded checkpoint
is compared with reading its files and discarding the data.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine

AUTO = (
    *("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForQuestionAnswering"),
    *("AutoModelForSequenceClassification", "AutoModelForTokenClassification", "AutoTokenizer"),
)
IMPORTS = {
    "transformers' auto classes": f"from transformers import {', '.join(AUTO)}",
    "one of its own models": "from transformers import Starcoder2ForCausalLM",
    "codeshell_hf": "import codeshell_hf",
}


def measure(run: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median, minimum and maximum of seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), min(seconds), max(seconds)


def start(*command: str) -> None:
    """Runs a process to its end; stops the benchmark if it fails."""
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=Path(__file__).parents[1])


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=1000, help="of the checkpoint that is loaded")
    add_output(parser)
    options = parser.parse_args(arguments)
    columns = {"seconds": "46", "median": "9.2f", "least": "8.2f", "most": "8.2f", "parameters": "12", "MB/s": "8,.0f"}
    table = Result(describe_machine("torch", "transformers"), [f"{options.repeats} repeats"], columns)
    table.start("benchmarks.startup", arguments)
    imports: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for repeat in range(options.repeats + 1):
        for name, code in IMPORTS.items():
            taken = measure(lambda code=code: start("-c", code), 1)
            if repeat:  # the first turn brings files into memory
                imports[name].append(taken[0])
    for name, seconds in imports.items():
        table.add_rates(f"import {name}", seconds)
    for name in list(IMPORTS)[:-1]:  # in turn, so that a slowdown of the machine affects both
        differences = [ours - theirs for ours, theirs in zip(imports["codeshell_hf"], imports[name], strict=True)]
        table.add_rates(f"codeshell_hf beside {name}", differences)

    recipes = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.py"))
    commands = [
        name
        for name in recipes
        if "if __name__" in (Path(__file__).parents[1] / "recipes" / f"{name}.py").read_text(encoding="utf-8")
    ]
    slowest = max((measure(lambda name=name: start("-m", f"recipes.{name}", "--help"), 1), name) for name in commands)
    taken = measure(lambda: start("-m", f"recipes.{slowest[1]}", "--help"), options.repeats)
    table.add(f"slowest --help ({slowest[1]})", *taken)
    measure_presets(options.repeats, table)
    measure_loading(options.megabytes, options.repeats, table)
    table.keep(options.json)
    return 0


def measure_presets(repeats: int, table: Result) -> None:
    """Builds every preset on the meta device."""
    import torch

    from codeshell_hf import CodeShellForCausalLM
    from codeshell_hf.presets import PRESETS, count_parameters, make_config

    for name in PRESETS:
        config = make_config(name)

        def build(config: object = config) -> CodeShellForCausalLM:
            with torch.device("meta"):
                return CodeShellForCausalLM(config)

        number = sum(parameter.numel() for parameter in build().parameters())
        if number != count_parameters(config):
            raise SystemExit(f"{name} has {number} parameters, not {count_parameters(config)}")
        size = f"{number / 1e9:.2f}B" if number > 1e9 else f"{number / 1e6:.2f}M"
        table.add(f"{name} on the meta device", *measure(build, min(repeats, 3)), size)


def measure_loading(megabytes: int, repeats: int, table: Result) -> None:
    """Loads a sharded checkpoint, and reads the same files without keeping them."""
    import torch
    import transformers

    from codeshell_hf import CodeShellForCausalLM
    from codeshell_hf.presets import make_config

    transformers.utils.logging.disable_progress_bar()
    layers = max(1, round(megabytes * 1e6 / 4 / 12.6e6))
    config = make_config("nano", n_embd=1024, n_head=16, num_query_groups=4, n_inner=4096, n_layer=layers)
    with tempfile.TemporaryDirectory() as place:
        model = CodeShellForCausalLM(config)
        model.save_pretrained(place, max_shard_size="200MB")
        files = sorted(Path(place).glob("*.safetensors"))
        size = sum(path.stat().st_size for path in files) / 1e6
        expected = sum(parameter.double().sum() for parameter in model.parameters())

        def read() -> None:
            for path in files:
                with path.open("rb", buffering=0) as file:
                    while file.read(1 << 24):
                        pass

        def load() -> None:
            loaded = CodeShellForCausalLM.from_pretrained(place, dtype=torch.float32)
            # The files are memory-mapped, so weights are only loaded when they are read.
            if sum(parameter.double().sum() for parameter in loaded.parameters()) != expected:
                raise SystemExit("what was loaded is not what was saved")

        for name, run in (
            (f"{len(files)} shards read to nowhere", read),
            ("the same by from_pretrained, summed", load),
        ):
            taken = measure(run, repeats)
            table.add(name, *taken, None, size / taken[0])


if __name__ == "__main__":
    sys.exit(main())
