"""What it costs to begin: the import beside transformers' own, every `--help`, every preset, and loading from disk.

python -m benchmarks.startup [--repeats 7] [--megabytes 1000]

Imports and helps are whole processes, in turn; a preset is built on the meta device; a sharded checkpoint is loaded
beside reading its files to nowhere.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
    """Seconds: the median, the least and the most."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), min(seconds), max(seconds)


def start(*command: str) -> None:
    """Runs a process to its end; one that fails ends the benchmark."""
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=Path(__file__).parents[1])


def print_line(name: str, seconds: tuple[float, float, float], more: str = "") -> None:
    """Prints a line of the table."""
    print(f"{name:<48}{seconds[0]:>8.2f} s   {seconds[1]:.2f} to {seconds[2]:.2f}{more}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=1000, help="of the checkpoint that is loaded")
    options = parser.parse_args(arguments)
    import torch
    import transformers

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {options.repeats} repeats, median, least and most"
    )
    medians = {}
    for code in IMPORTS.values():
        start("-c", code)  # once for the disk's sake
    for name, code in IMPORTS.items():
        taken = measure(lambda code=code: start("-c", code), options.repeats)
        medians[name] = taken[0]
        print_line(f"import {name}", taken)
    for name in list(IMPORTS)[:-1]:
        print(f"{'codeshell_hf beside ' + name:<48}{medians['codeshell_hf'] - medians[name]:>+8.2f} s")

    recipes = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.py"))
    commands = [
        name for name in recipes if "if __name__" in (Path(__file__).parents[1] / "recipes" / f"{name}.py").read_text()
    ]
    slowest = max((measure(lambda name=name: start("-m", f"recipes.{name}", "--help"), 1), name) for name in commands)
    print_line(
        f"slowest --help ({slowest[1]})",
        measure(lambda: start("-m", f"recipes.{slowest[1]}", "--help"), options.repeats),
    )

    measure_presets(options.repeats)
    measure_loading(options.megabytes, options.repeats)
    return 0


def measure_presets(repeats: int) -> None:
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
        print_line(f"{name} on the meta device", measure(build, min(repeats, 3)), f"   {number / 1e9:.2f}B parameters")


def measure_loading(megabytes: int, repeats: int) -> None:
    """Loads a sharded checkpoint, and reads the same files to nowhere."""
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
            # The files are mapped: only a number that is read has been loaded.
            if sum(parameter.double().sum() for parameter in loaded.parameters()) != expected:
                raise SystemExit("what was loaded is not what was saved")

        for name, run in (
            (f"{len(files)} shards read to nowhere", read),
            ("the same by from_pretrained, summed", load),
        ):
            taken = measure(run, repeats)
            print_line(name, taken, f"   {size / taken[0]:,.0f} MB/s")


if __name__ == "__main__":
    sys.exit(main())
