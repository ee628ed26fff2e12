"""Signals and kills through the real launchers, real shells and real processes; Slurm's two commands have stand-ins.

PREEMPTIONS=100 pytest -m slow tests/recipes/test_preemption.py -s    more of them, with a line each
"""

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import yaml

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.shard_writer import make_header, write_shards
from codeshell_hf.train.checkpoint import list_checkpoints

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("PREEMPTIONS", "6"))
STEPS = 300
LIMIT_S = 120  # to stop, on a busy machine; a hang is what lasts longer
SRUN = """#!/bin/sh
"$@" & child=$!
trap 'kill -USR1 $child' USR1
trap 'kill -TERM $child' TERM
code=0
while kill -0 $child 2>/dev/null; do wait $child && code=0 || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/sh
case $1 in show) echo 127.0.0.1 ;; requeue) echo "$2" >>"$REQUEUED" ;; esac
"""
WAYS = ("TERM", "USR1", "slurm", "rank", "agent")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    """Shards, the settings of a small model, and stand-ins for Slurm's commands."""
    home = tmp_path_factory.mktemp("preemption")
    shared_tokenizer.save_pretrained(home / "tokenizer")
    header = make_header(shared_tokenizer, home / "tokenizer")
    for split in ("train", "held-out"):
        texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "codeshell_hf").glob("*.py"))]
        rows = [{"id": str(n), "language": "python", "source": "own", "text": text} for n, text in enumerate(texts)]
        (home / "pack" / split).mkdir(parents=True)
        write_shards(rows, shared_tokenizer, header, home / "pack" / split)
    changes = {"vocab_size": len(shared_tokenizer), "n_embd": 32, "n_head": 4, "n_layer": 2, "n_inner": 64}
    settings = {
        "output": "",
        "shards": str(home / "pack"),
        "tokenizer": str(home / "tokenizer"),
        "model": {"preset": "nano", "changes": changes},
        "batch": {"global_tokens": 1024, "micro_tokens": 128},  # four micro-batches, between which it can stop
        "schedule": {
            "total_tokens": STEPS * 1024,
            "warmup_tokens": 2048,
            "phases": [{"until_fraction": 1.0, "row_tokens": 64}],
        },
        "optimizer": {"name": "adamw", "learning_rate": 3e-3},
        "checkpoint": {"every_steps": 20},
        "evaluation": {"max_bytes_per_language": 2000, "every_steps": 50},
        "precision": "float32",
    }
    (home / "pretrain.yaml").write_text(yaml.safe_dump(settings))
    (home / "bin").mkdir()
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (home / "bin" / name).write_text(script)
        (home / "bin" / name).chmod(0o755)
    return home


def launch(home: Path, output: Path, *, slurm: bool) -> subprocess.Popen[bytes]:
    port = random.Random(time.time_ns()).randrange(20_000, 60_000)
    script = ["bash", "recipes/launch/slurm.sbatch"] if slurm else ["sh", "recipes/launch/torchrun.sh"]
    more = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NODELIST": "one", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7"}
    more |= {"SLURM_GPUS_ON_NODE": "2", "REQUEUED": str(home / "requeued")}
    more |= {"NODES": "1", "PER_NODE": "2", "HEAD": f"127.0.0.1:{port}", "NODE_RANK": "0", "PYTHON": sys.executable}
    path = os.pathsep.join((str(home / "bin"), os.environ["PATH"]))
    with (home / "printed").open("ab") as printed:
        return subprocess.Popen(
            [*script, str(home / "pretrain.yaml"), f"output={output}"],
            cwd=ROOT,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more, "PATH": path, "OMP_NUM_THREADS": "1"},
        )


def read_steps(output: Path) -> list[int]:
    """Steps that are in the log."""
    log = output.with_name(f"{output.name}.partial") / "log.jsonl"
    if not log.exists():
        return []
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [entry["step"] for entry in entries if "loss" in entry]


def find_processes(output: Path) -> list[psutil.Process]:
    """Ranks of a run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if f"output={output}" in process.cmdline() and "RANK" in process.environ():
                found.append(process)
    return found


def find_agent(process: subprocess.Popen[bytes]) -> psutil.Process:
    return next(
        one
        for one in psutil.Process(process.pid).children(recursive=True)
        if "torch.distributed.run" in one.cmdline() and "codeshell_hf.commands.supervisor" not in one.cmdline()
    )


@pytest.mark.slow
def test_random_preemptions_lose_no_step_and_hang_nowhere(home: Path, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("PREEMPTION_SEED", "0")))
    whole, output, trial = tmp_path / "whole", tmp_path / "preempted", 0
    assert launch(home, whole, slurm=False).wait(600) == 0
    while trial < COUNT or not output.exists():
        if output.exists():  # finished between two of them
            shutil.rmtree(output)
        way = WAYS[trial % len(WAYS)] if trial < COUNT else "none"
        trial += 1
        started = time.monotonic()
        process = launch(home, output, slurm=way == "slurm")
        if way == "none":
            assert process.wait(600) == 0
            break
        known = len(read_steps(output))
        if rng.random() < 0.7:  # else while it starts
            while len(read_steps(output)) <= known and process.poll() is None:
                assert time.monotonic() < started + LIMIT_S
                time.sleep(0.05)
        time.sleep(3 * rng.random())
        if way in ("rank", "agent"):
            with suppress(StopIteration, psutil.Error, IndexError):  # it has not begun, or has ended
                victim = find_agent(process) if way == "agent" else rng.choice(find_processes(output))
                victim.kill()
            time.sleep(1)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if way in ("TERM", "rank") else signal.SIGUSR1)
        asked = time.monotonic()
        code = process.wait(LIMIT_S)
        while find_processes(output):
            assert time.monotonic() < asked + LIMIT_S, "ranks were left behind"
            time.sleep(0.1)
        steps = read_steps(output)
        saved = list_checkpoints(output.with_name("preempted.partial") / "checkpoints")
        print(f"{way:<6} exit {code:>3} after {time.monotonic() - asked:5.1f} s, step {steps[-1] if steps else 0}")
        if code == 75 and steps:
            assert saved[-1].name == f"step-{steps[-1]:08d}"
        elif way in ("TERM", "USR1", "slurm", "rank"):
            # Before torchrun.sh has installed a handler, a signal ends it at once, and nothing has begun.
            assert code in (0, 75) or len(steps) <= known
        if way == "slurm":
            assert (home / "requeued").exists() == (code == 75)
            (home / "requeued").unlink(missing_ok=True)

    losses = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (whole, output)
    ]
    expected, found = ([entry["loss"] for entry in entries if "loss" in entry] for entries in losses)
    assert len(found) == len(expected) == STEPS
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_requeued_job_waits_for_what_is_left_of_the_run_before_it(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "requeued"
    hold = "import sys; from pathlib import Path; from codeshell_hf.stages.output_lock import lock_output as lock\n"
    hold += "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as earlier:
        assert earlier.stdout is not None
        assert earlier.stdout.readline() == "held\n"
        process, started = launch(home, output, slurm=True), time.monotonic()
        line = f"{output} is locked by process {earlier.pid} on {platform.node()}; waits up to 180 s for it to end"
        while line not in (home / "printed").read_text():
            assert time.monotonic() < started + LIMIT_S
            time.sleep(0.2)
        time.sleep(5)  # the other rank waits for the first
        earlier.communicate()
    while not read_steps(output):
        assert process.poll() is None
        assert time.monotonic() < started + LIMIT_S
        time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)

    assert process.wait(LIMIT_S) == 75
    assert (home / "requeued").read_text() == "7\n"
    (home / "requeued").unlink()
