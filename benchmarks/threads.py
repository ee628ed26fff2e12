"""Speed of nano's training step with fewer processors than the machine has, by how threads wait for each other.

python -m benchmarks.threads [--tokens 2048] [--repeats 10]

Each row is a process of its own: on all processors, pinned to one by `taskset`, with a quota of one (where a cgroup can
be created), and beside a process that keeps one processor busy. Threads that wait passively sleep; threads that wait
actively spin. The package sets `OMP_WAIT_POLICY` to passive unless it is already set.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from benchmarks.result import Result, add_output, describe_machine, list_cores

ROW_TOKENS = 256
CGROUPS = Path("/sys/fs/cgroup")
WAITING = {"passive": "PASSIVE", "active": "ACTIVE"}
PLACES = ("alone", "pinned to one", "quota of one", "beside a busy process")


class Measured(TypedDict):
    """Measurements of a process."""

    threads: int
    rates: list[float]
    is_right: bool


def time_steps(tokens: int, repeats: int) -> Measured:
    """Times steps in this process: tokens per second of each, the threads, and the loss of an untrained model."""
    import torch

    from codeshell_hf import CodeShellForCausalLM
    from codeshell_hf.presets import make_config
    from codeshell_hf.processors import set_threads
    from codeshell_hf.train.optimizer import make_optimizers
    from codeshell_hf.train.settings import OptimizerSettings

    threads = set_threads()
    torch.manual_seed(0)
    config = make_config("nano")
    model = CodeShellForCausalLM(config).train()
    (optimizer,) = make_optimizers(model, OptimizerSettings(learning_rate=1e-4))
    rows = torch.randint(0, config.vocab_size, (max(1, tokens // ROW_TOKENS), ROW_TOKENS))
    losses, rates = [], []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rates.append(rows.numel() / (time.perf_counter() - started))
        losses.append(loss.item())
    is_right = abs(losses[0] - math.log(config.vocab_size)) < 0.5
    return {"threads": threads, "rates": rates[1:], "is_right": is_right}


@contextlib.contextmanager
def keep_busy(*, is_busy: bool) -> Iterator[None]:
    """Runs a process that keeps one processor busy."""
    if not is_busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def make_group(*, is_needed: bool) -> Iterator[Path | None]:
    """Makes a cgroup with a quota of one processor; `None` if that is not permitted."""
    if not is_needed:
        yield None
        return
    version_2 = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if version_2 else CGROUPS / "cpu") / "codeshell-threads"
    quota, text = ("cpu.max", "100000 100000") if version_2 else ("cpu.cfs_quota_us", "100000")
    try:
        group.mkdir(exist_ok=True)
        is_real = (group / quota).exists()  # the kernel creates this file, only in a cgroup
        if is_real:
            (group / quota).write_text(text)
    except OSError:
        is_real = False
    if not is_real:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def measure(place: str, waiting: str, options: argparse.Namespace) -> Measured | None:
    """Times steps in a process of its own; `None` if the machine does not support the limit."""
    command = [sys.executable, "-m", "benchmarks.threads", "--child"]
    command += ["--tokens", str(options.tokens), "--repeats", str(options.repeats)]
    environment = {**os.environ, "OMP_WAIT_POLICY": WAITING[waiting]}
    environment.pop("OMP_NUM_THREADS", None)
    with make_group(is_needed=place == "quota of one") as group, keep_busy(is_busy=place == "beside a busy process"):
        if place == "quota of one" and group is None:
            return None
        if place == "pinned to one":
            command = ["taskset", "-c", str(min(list_cores())), *command]
        if group is not None:  # the shell joins the cgroup before it execs the child
            join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
            command = ["sh", "-c", join, "sh", *command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{place}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=2048, help="of a step, in rows of 256")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    add_output(parser)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(time_steps(options.tokens, options.repeats)))
        return 0
    columns = {
        "place": "24",
        "waiting": "10",
        "threads": "9.0f",
        "tokens/s": "11,.0f",
        "least": "9,.0f",
        "most": "9,.0f",
    }
    facts = [f"nano's step of {options.tokens} tokens in rows of {ROW_TOKENS}, AdamW, {options.repeats} repeats"]
    table = Result(describe_machine("torch"), facts, columns)
    table.start("benchmarks.threads", arguments)
    for place in PLACES:
        for waiting in WAITING:
            found = measure(place, waiting, options)
            if found is None:
                table.note(f"{place}: this machine does not allow it")
                break
            if not found["is_right"]:
                print(f"{place}: a new model has another loss than a uniform guess; nothing is shown", file=sys.stderr)
                return 1
            rates = found["rates"]
            table.add(place, waiting, found["threads"], statistics.median(rates), min(rates), max(rates))
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
