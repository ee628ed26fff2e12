"""The arithmetic and the threads of a run: measured on the device, the same on all ranks, kept through a resume."""

import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent

import pytest
import torch

from codeshell_hf import precision as precisions
from codeshell_hf import processors
from codeshell_hf.errors import CheckpointError
from codeshell_hf.precision import (
    MAX_SLOWDOWN,
    Precision,
    choose_precision,
    measure_speedup,
    read_precision,
    write_precision,
)
from codeshell_hf.presets import make_config
from codeshell_hf.train.muon import orthogonalize
from tests.warm import start

CPU = torch.device("cpu")
# What a processor without instructions for bfloat16 is like, on one that has them; plain on one that has not.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def busy(seconds: float) -> None:
    """Uses the processor for so long, on its own clock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def take(exact_s: float, rounded_s: float, pieces: int = 1) -> Callable[[torch.dtype], Iterator[None]]:
    """Work that takes so long in each dtype, in pieces."""

    def work(dtype: torch.dtype) -> Iterator[None]:
        for _ in range(pieces):
            busy((exact_s if dtype == torch.float32 else rounded_s) / pieces)
            yield

    return work


@pytest.mark.parametrize(("exact_s", "rounded_s"), [(0.02, 0.01), (0.01, 0.01), (0.01, 0.03)])
def test_the_ratio_is_that_of_the_times(exact_s: float, rounded_s: float) -> None:
    assert measure_speedup(take(exact_s, rounded_s), CPU) == pytest.approx(exact_s / rounded_s, rel=0.15)


def test_a_dtype_that_is_far_too_slow_is_not_waited_for() -> None:
    """In 100 pieces of 10 ms each, of which all that is allowed is four times 5 ms, twice."""
    started = time.thread_time()

    found = measure_speedup(take(0.005, 1.0, pieces=100), CPU)

    assert found < 1 / MAX_SLOWDOWN
    assert time.thread_time() - started < 0.2


def test_time_that_others_take_does_not_count() -> None:
    def work(dtype: torch.dtype) -> Iterator[None]:
        busy(0.01)
        if dtype == torch.bfloat16:
            time.sleep(0.05)  # as where another process has the processor
        yield

    assert measure_speedup(work, CPU) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize(("speedup", "expected"), [(0.1, "float32"), (1.19, "float32"), (1.2, "bfloat16")])
def test_auto_takes_bfloat16_from_a_fifth_faster_on(
    monkeypatch: pytest.MonkeyPatch, speedup: float, expected: str
) -> None:
    monkeypatch.setattr(precisions, "measure_speedup", lambda work, device: speedup)

    found = choose_precision("auto", make_config("nano"), CPU, trains=True, orthogonalize=orthogonalize)

    assert (found.compute_dtype, found.orthogonalization) == (expected, expected)
    assert found.describe("auto").startswith(f"arithmetic in {expected}: products in bfloat16 are ")


def test_bfloat16_that_is_slow_is_warned_of_with_its_ratio(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precisions, "measure_speedup", lambda work, device: 0.5)

    with caplog.at_level(logging.WARNING):
        found = choose_precision("bfloat16", make_config("nano"), CPU, trains=True, orthogonalize=orthogonalize)

    assert (found.compute_dtype, found.orthogonalization) == ("bfloat16", "float32")
    assert [record.getMessage() for record in caplog.records] == [
        "precision is bfloat16, which is 0.5 times as fast as float32 on this cpu; set it to auto"
    ]


def test_float32_that_is_asked_for_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "measure_speedup", None)

    assert choose_precision("float32", None, CPU, trains=True) == Precision("float32")


@pytest.mark.parametrize("preset", ["nano", "codeshell-7b"])
def test_the_probe_takes_milliseconds_whatever_the_model(preset: str) -> None:
    choose_precision("auto", make_config("nano"), CPU, trains=True)  # warms up
    started = time.process_time()

    choose_precision("auto", make_config(preset), CPU, trains=True, orthogonalize=orthogonalize)

    assert time.process_time() - started < 0.5


def test_the_probe_leaves_threads_and_the_rng_as_they_were() -> None:
    threads, rng = torch.get_num_threads(), torch.get_rng_state()

    choose_precision("auto", make_config("nano"), CPU, trains=True, orthogonalize=orthogonalize)

    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_record_is_read_as_it_was_written_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_precision(tmp_path) is None
    write_precision(tmp_path / "checkpoints", Precision("bfloat16", "float32", 1.5, 20.0))
    assert read_precision(tmp_path / "checkpoints") == Precision("bfloat16", "float32", 1.5, 20.0)

    (tmp_path / "checkpoints" / "precision.json").write_text("{")

    with pytest.raises(CheckpointError, match="cannot be read"):
        read_precision(tmp_path / "checkpoints")


# Float32 first, then bfloat16 until it has taken four times as long: a row at a time, gradients of all in one step.
STEP = """
import time, torch
from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.precision import choose_precision
from codeshell_hf.presets import make_config
torch.set_num_threads(1)
torch.manual_seed(0)
config = make_config("nano")
model = CodeShellForCausalLM(config).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
rows = torch.randint(0, config.vocab_size, (4, 1, 256))

def step(is_bf16, limit_s):
    started = time.process_time()
    for done, row in enumerate(rows, 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = model(input_ids=row, labels=row).loss
        loss.backward()
        if time.process_time() - started > limit_s:
            break
    optimizer.step()
    optimizer.zero_grad()
    return (time.process_time() - started) / done

step(False, 0)
exact = min(step(False, 1e9) for _ in range(3))
repeats = 3 if step(True, 0) < 4 * exact else 1
rounded = min(step(True, 4 * len(rows) * exact) for _ in range(repeats))
chosen = choose_precision("auto", config, torch.device("cpu"), trains=True)
print("ratio", exact / rounded, chosen.compute_dtype, chosen.speedup, time.process_time())
"""


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="as it is"),
        pytest.param(
            AVX2,
            marks=pytest.mark.skipif(
                platform.machine() not in ("x86_64", "AMD64"), reason="the variables are of x86's libraries"
            ),
            id="avx2",
        ),
    ],
)
def test_auto_takes_what_a_training_step_is_faster_in(environment: dict[str, str]) -> None:
    """Processor time of real steps, forward, backward and update, which the probe does not look at."""
    process = start("-c", STEP, **{"CUDA_VISIBLE_DEVICES": "", **environment})  # type: ignore[arg-type]
    printed = process.communicate(timeout=300)[0]

    assert process.returncode == 0, printed
    words = printed.split("ratio")[1].split()
    ratio, chosen = float(words[0]), words[1]
    if environment:
        assert ratio < 1 / 1.5, printed
    if ratio >= 1.5:
        assert chosen == "bfloat16", printed
    if ratio <= 1 / 1.5:
        assert chosen == "float32", printed


def write_groups(root: Path, lines: str, files: dict[str, str]) -> None:
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        # a limit on a group above counts, the tightest of all
        (
            "0::/user/job\n",
            {"sys/fs/cgroup/user/cpu.max": "200000 100000\n", "sys/fs/cgroup/user/job/cpu.max": "800000 100000\n"},
            2.0,
        ),
        # in a container the path may be the host's, which is not mounted
        ("0::/docker/0a1b\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        # version 1
        (
            "4:cpu,cpuacct:/job\n3:memory:/\n",
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_quotas_are_those_of_the_groups_and_all_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, files: dict[str, str], expected: float | None
) -> None:
    write_groups(tmp_path, lines, files)
    monkeypatch.setattr(processors, "ROOT", tmp_path)

    assert processors.find_quota() == expected


@pytest.mark.parametrize(
    ("placed", "quota", "expected"), [(64, None, 64), (64, 2.0, 2), (64, 1.5, 2), (64, 0.5, 1), (2, 8.0, 2)]
)
def test_usable_processors_are_the_fewest(
    monkeypatch: pytest.MonkeyPatch, placed: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(placed)), raising=False)
    monkeypatch.setattr(processors, "find_quota", lambda: quota)

    assert processors.count_usable_cpus() == expected


def test_where_affinity_is_unknown_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(processors, "ROOT", Path("/nowhere"))

    assert processors.count_usable_cpus() == 5


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "99"}, 8),
        ({"OMP_NUM_THREADS": "many"}, 8),
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "16"}, 1),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 1),
    ],
)
def test_threads_are_a_ranks_share_and_no_more_than_asked(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: int
) -> None:
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processors, "count_usable_cpus", lambda: 8)

    assert processors.count_threads() == expected


@pytest.mark.slow
@pytest.mark.parametrize("asked", [None, "1"])
def test_a_one_that_torchrun_wrote_itself_is_ignored(tmp_path: Path, asked: str | None) -> None:
    """Torchrun writes OMP_NUM_THREADS=1 for several ranks where nothing is set; a person's own 1 is kept."""
    program = tmp_path / "count.py"
    program.write_text(
        "from codeshell_hf import processors\n"
        "processors.count_usable_cpus = lambda: 8\n"
        "import sys; sys.stdout.write(f'threads {processors.count_threads()}\\n')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {} if asked is None else {"OMP_NUM_THREADS": asked}

    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)],
        capture_output=True, text=True, check=True, env=environment, timeout=300,
    )  # fmt: skip

    assert done.stdout.count(f"threads {4 if asked is None else 1}") == 2, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's own")
def test_a_process_on_one_processor_counts_one() -> None:
    core = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, {{{core}}})\n"
        "from codeshell_hf import processors; print(processors.count_usable_cpus(), processors.set_threads())\n"
        "import torch; print(torch.get_num_threads())"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["1", "1", "1"]


# Two ranks; `probe` takes the place of trying, and `settle` prints what a rank settles on or stops at.
PRELUDE = """
import os, sys
from pathlib import Path
import torch
from codeshell_hf import precision
from codeshell_hf.presets import make_config
from codeshell_hf.stages.precision_choice import resolve_precision
from codeshell_hf.stages.stage import Work
from recipes.with_accelerate import join_ranks
rank, kept = int(os.environ["RANK"]), Path(sys.argv[1])

def probe(answer):
    def measure(work, device):
        if isinstance(answer, Exception):
            raise answer
        return answer
    precision.measure_speedup = measure

def settle(name):
    try:
        asked = ("auto", lambda: make_config("nano"), Work(kept))
        found = resolve_precision(*asked, trains=True, record_folder=kept).compute_dtype
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(f"rank {rank}, {name}: {found}", flush=True)
"""
# Ranks leave together: one that is gone may end the other's threads, and with them the process.
EPILOGUE = """
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def run_two_ranks(folder: Path, body: str) -> str:
    (folder / "ranks.py").write_text(f"{PRELUDE}with join_ranks():\n{indent(body, '    ')}{EPILOGUE}")
    process = start(str(folder / "ranks.py"), str(folder / "kept"), ranks=2)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    return printed


@pytest.mark.slow
def test_the_first_rank_decides_for_all_and_a_resumed_run_keeps_what_it_began_with(tmp_path: Path) -> None:
    """Two ranks whose probes disagree; then both find bfloat16 slow; then the record is broken."""
    printed = run_two_ranks(
        tmp_path,
        """
probe((2.0, 0.5)[rank])
settle("first")
probe(0.5)
settle("second")
if rank == 0:
    (kept / "precision.json").write_text("{")
settle("broken")
""",
    )

    assert printed.count("arithmetic in bfloat16: products in bfloat16 are 2.0 times as fast") == 1
    assert printed.count("arithmetic in bfloat16, as the run started") == 1
    for rank in (0, 1):
        assert f"rank {rank}, first: bfloat16" in printed
        assert f"rank {rank}, second: bfloat16" in printed
        assert f"rank {rank}, broken: CheckpointError" in printed


@pytest.mark.slow
def test_whatever_stops_the_first_rank_stops_all(tmp_path: Path) -> None:
    printed = run_two_ranks(
        tmp_path,
        """
class Odd(Exception):
    def __init__(self, one, two):  # cannot be unpickled: it takes two words, of which pickle keeps one
        super().__init__(f"{one} {two}")

probe(RuntimeError("no kernel"))
settle("probe")
probe(Odd("no", "kernel"))
settle("odd")
probe(2.0)
if rank == 0:
    kept.symlink_to("/nowhere/at/all")  # holds no record and takes none
settle("disk")
""",
    )

    for rank in (0, 1):
        assert f"rank {rank}, probe: RuntimeError: no kernel" in printed
        assert f"rank {rank}, odd: RunFailed: Odd: no kernel" in printed
        assert f"rank {rank}, disk: FileExistsError" in printed
