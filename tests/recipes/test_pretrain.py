"""The pretraining loop: sharded in every way, stopped, resumed, guarded, and called wrongly."""

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.commands.supervisor import list_agent_options
from codeshell_hf.loading import load_model
from codeshell_hf.manifest import read_manifest
from codeshell_hf.pack.shard_writer import make_header, write_shards
from codeshell_hf.presets import make_config
from codeshell_hf.stages.stage import main
from codeshell_hf.text.shards import TokenShards
from codeshell_hf.train.loss import CPU_POSITIONS
from codeshell_hf.train.operator import operator_folder
from codeshell_hf.train.run_log import Log, Progress
from recipes.pretrain import STAGE
from tests.warm import start
from tokenizer.bpe import train_bpe

ROOT = Path(__file__).parents[2]
slow = pytest.mark.slow
Capture: TypeAlias = pytest.CaptureFixture[str]
Patch: TypeAlias = pytest.MonkeyPatch
SHARDINGS = {
    "ddp": ("DDP", "DistributedDataParallel of Parameter"),
    "fsdp2": ("FSDP2", "FSDPTrainedModel of DTensor"),
    "hsdp": ("FSDP2 in 2 replicas", "FSDPTrainedModel of DTensor"),
    "zero2": ("ZeRO-2", "DeepSpeedEngine of Parameter"),
    "zero3": ("ZeRO-3", "DeepSpeedEngine of Parameter"),
}


@pytest.fixture(autouse=True)
def fresh_accelerate(monkeypatch: Patch) -> None:
    """Each run has a process of its own; here some share one, and accelerate keeps its state."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    """Shards of this project's own code and settings of a model that takes seconds."""
    home = tmp_path_factory.mktemp("pretraining")
    tokenizer = shared_tokenizer
    tokenizer.save_pretrained(home / "tokenizer")
    header = make_header(tokenizer, home / "tokenizer")
    files = sorted((ROOT / "src" / "codeshell_hf").rglob("*.py"))
    for split, chosen in (("train", files[::2]), ("held-out", files[1::8])):
        rows = [
            {"id": path.name, "language": "python", "source": "own", "text": path.read_text(encoding="utf-8")}
            for path in chosen
        ]
        folder = home / "pack" / split
        folder.mkdir(parents=True)
        write_shards(rows, tokenizer, header, folder)
    settings = {
        "output": "",
        "shards": str(home / "pack"),
        "tokenizer": str(home / "tokenizer"),
        "model": {
            "preset": "nano",
            "changes": {"vocab_size": len(tokenizer), "n_embd": 32, "n_head": 4, "n_layer": 2, "n_inner": 64},
        },
        "batch": {"global_tokens": 1024, "micro_tokens": 512},
        "schedule": {
            "total_tokens": 20480,
            "warmup_tokens": 2048,
            "phases": [{"until_fraction": 0.9, "row_tokens": 64}, {"until_fraction": 1.0, "row_tokens": 256}],
        },
        "optimizer": {"name": "adamw", "learning_rate": 3e-3},
        "infilling": {"rate": 0.5, "spm_rate": 0.5},
        "checkpoint": {"every_steps": 5},
        "evaluation": {"max_bytes_per_language": 8000},
        "precision": "float32",
        "log_every_steps": 5,
    }
    (home / "pretrain.yaml").write_text(yaml.safe_dump(settings))
    return home


BUILD = "from codeshell_hf.train.operator import build_operator; build_operator()"


def command(home: Path, output: Path, *more: str) -> list[str]:
    return ["-m", "recipes.pretrain", str(home / "pretrain.yaml"), f"output={output}", *more]


def complete(home: Path, output: Path, *more: str, ranks: int = 1) -> str:
    return finish(start(*command(home, output, *more), ranks=ranks, is_warm=True))


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == code, printed[-4000:]
    return printed


def read_output(process: subprocess.Popen[str]) -> str:
    return process.stdout.read()[-4000:] if process.stdout else ""


def counts_of(output: Path) -> dict[str, Any]:
    manifest = read_manifest(output)
    assert manifest is not None
    return manifest.counts


def losses_of(output: Path) -> list[float]:
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def read_log(output: Path) -> list[dict[str, Any]]:
    """A run's log without times."""
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "elapsed_s"} for entry in entries]


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a launcher and its workers, which are sessions of their own, as a node that loses its power does."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=60)


def wait_for_checkpoint(process: subprocess.Popen[str], output: Path) -> None:
    checkpoints = output.with_name(f"{output.name}.partial") / "checkpoints"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("step-*")):
        assert process.poll() is None, read_output(process)
        assert time.monotonic() < deadline, f"no checkpoint in {checkpoints}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def zero() -> None:
    """What DeepSpeed needs on a CPU, compiled before runs are timed and killed."""
    if find_spec("deepspeed") is None or shutil.which("g++") is None:
        pytest.skip("DeepSpeed on a CPU builds an operator with g++")
    subprocess.run([sys.executable, "-c", BUILD], check=True, timeout=600)


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    """A run of one process and one thread, as the others here, that nothing stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert run(home, home / "whole") == 0
    return home / "whole"


def test_a_new_model_starts_at_the_loss_of_a_uniform_guess(home: Path, whole: Path) -> None:
    """New weights are small, so that all tokens are about as likely; only the mean over labels gives this number."""
    vocabulary = json.loads((whole / "model" / "config.json").read_text())["vocab_size"]

    assert losses_of(whole)[0] == pytest.approx(math.log(vocabulary), rel=0.01)
    assert losses_of(whole)[-1] < losses_of(whole)[0] - 0.5


def stop_after(monkeypatch: Patch, *steps: int) -> None:
    """Sends SIGTERM to this process as each of these steps is logged."""
    add_step = Log.add_step

    def add_step_and_stop(log: Log, progress: Progress, *values: float, is_taken: bool) -> None:
        add_step(log, progress, *values, is_taken=is_taken)  # type: ignore[arg-type]
        if progress.step in steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Log, "add_step", add_step_and_stop)


def test_a_run_that_a_signal_stops_resumes_bit_for_bit_through_the_change_of_length(
    home: Path, whole: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    stop_after(monkeypatch, 6, 13)

    assert [run(home, tmp_path / "out") for _ in range(3)] == [75, 75, 0]

    printed = capsys.readouterr()
    assert "saved step 7 of 20; run the same command again to continue" in printed.err
    assert "resumes at step 7 of 20" in printed.out
    assert "resumes at step 14 of 20" in printed.out
    assert losses_of(tmp_path / "out") == losses_of(whole)
    model = "model/model.safetensors"
    assert (tmp_path / "out" / model).read_bytes() == (whole / model).read_bytes()


def test_a_resumed_run_drops_what_it_would_have_dropped(
    home: Path, whole: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    dropout = ("model.changes.resid_pdrop=0.2", "schedule.total_tokens=10240")
    assert run(home, tmp_path / "whole", *dropout) == 0
    stop_after(monkeypatch, 6)

    assert [run(home, tmp_path / "out", *dropout) for _ in range(2)] == [75, 0]

    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "whole") != losses_of(whole)[:10]


@slow
@pytest.mark.parametrize("kind", SHARDINGS)
def test_two_ranks_take_the_same_steps_as_one_however_they_shard(
    request: pytest.FixtureRequest, home: Path, whole: Path, kind: str
) -> None:
    if kind.startswith("zero"):
        request.getfixturevalue("zero")
    more = ["precision=float32"]
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / f"{kind}.yaml").read_text())
    (home / f"{kind}.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))

    printed = complete(home, home / kind, *more, f"accelerate={home}/{kind}.yaml", ranks=2)

    name, types = SHARDINGS[kind]
    assert f"parameters by {name} ({types})" in printed
    assert losses_of(home / kind) == pytest.approx(losses_of(whole), rel=1e-5)
    assert counts_of(home / kind) == counts_of(whole)
    weights, expected = (load_file(folder / "model" / "model.safetensors") for folder in (home / kind, whole))
    assert weights.keys() == expected.keys()
    assert all(np.allclose(weights[key], expected[key], atol=2e-4) for key in expected)


ZERO_3 = """
import itertools, json, torch
from deepspeed.accelerator import get_accelerator
from codeshell_hf.presets import make_config
from codeshell_hf.precision import Precision
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.settings import OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from recipes.with_accelerate import join_ranks
config = make_config("nano", vocab_size=400, n_embd=48, n_head=4, n_layer=2, n_inner=64)
adamw = OptimizerSettings(learning_rate=1e-3)
with join_ranks() as ranks:
    for is_bf16, knows_float16 in itertools.product((False, True), repeat=2):
        type(get_accelerator()).is_fp16_supported = lambda self: knows_float16
        options = EngineOptions(precision=Precision("bfloat16" if is_bf16 else "float32"), sharding=Sharding("zero", 3))
        engine = make_engine(config, adamw, options, device=ranks.device, seed=0)
        dtypes = sorted({str(parameter.dtype) for parameter in engine.model.parameters()})
        print(json.dumps([is_bf16, dtypes, engine.model.transformer.rotary_emb.inv_freq.tolist()]))
"""


@slow
@pytest.mark.usefixtures("zero")
def test_zero_3_computes_in_what_was_asked_for_on_any_processor() -> None:
    """DeepSpeed takes bfloat16 on processors without float16, whatever it is told in words of its own."""
    printed = finish(start("-c", ZERO_3))

    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("[") and "torch." in line]
    assert len(lines) == 4
    for is_bf16, dtypes, frequencies in lines:
        assert dtypes == ["torch.bfloat16" if is_bf16 else "torch.float32"]
        assert frequencies == pytest.approx([10_000 ** (-place / 12) for place in range(0, 12, 2)], rel=1e-6)


@slow
@pytest.mark.usefixtures("zero")
def test_an_operator_whose_builder_was_killed_is_built_all_the_same(tmp_path: Path, monkeypatch: Patch) -> None:
    """Torch's own lock outlives who holds it; whoever came later would wait for ever.

    In a copy of the folder: in the one that all tests share, another's build would meet the lock between its look and
    torch's.
    """
    shared = operator_folder()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    shutil.copytree(shared, operator_folder())
    (operator,) = operator_folder().glob("*/*.so")
    left = operator.with_name("lock")
    left.touch()

    subprocess.run([sys.executable, "-c", BUILD], check=True, timeout=600)

    assert not left.exists()


def test_zero_without_a_compiler_is_one_line(home: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("CXX", "no-such-compiler")
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / "zero2.yaml").read_text())
    (tmp_path / "zero.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))

    assert run(home, tmp_path / "out", f"accelerate={tmp_path}/zero.yaml") == 2

    assert "but there is no no-such-compiler; install g++, or shard with FSDP2" in capsys.readouterr().err


@slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_ranks_that_shard_the_output_layer_compute_its_loss_in_chunks(
    request: pytest.FixtureRequest, home: Path, kind: str
) -> None:
    """A forward pass of 1,024 tokens is two chunks on a CPU; the layer is used by the loss and not by itself."""
    if kind == "zero3":
        request.getfixturevalue("zero")
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / f"{kind}.yaml").read_text())
    (home / f"{kind}-chunks.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))
    steps = ["schedule.total_tokens=10240", "batch.global_tokens=2048"]
    assert CPU_POSITIONS < 1024

    assert run(home, home / f"{kind}-whole", *steps, "batch.micro_tokens=512") == 0
    shared = ["batch.micro_tokens=1024", f"accelerate={home}/{kind}-chunks.yaml"]
    complete(home, home / f"{kind}-chunks", *steps, *shared, ranks=2)

    assert losses_of(home / f"{kind}-chunks") == pytest.approx(losses_of(home / f"{kind}-whole"), rel=1e-5)


@slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_resumes_bit_for_bit_through_the_change_of_length(
    home: Path, whole: Path, number: signal.Signals
) -> None:
    output = home / f"stopped-{number}"
    process = start(*command(home, output))
    wait_for_checkpoint(process, output)
    os.killpg(process.pid, number)
    code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75), read_output(process)
    assert not output.exists()

    printed = complete(home, output)

    assert "resumes at step" in printed
    assert losses_of(output) == losses_of(whole)
    model = "model/model.safetensors"
    assert (output / model).read_bytes() == (whole / model).read_bytes()


@slow
@pytest.mark.parametrize(
    ("kind", "ranks", "other"),
    [("fsdp2", 1, "fsdp2"), ("zero2", 1, "zero2"), ("zero3", 1, "fsdp2"), ("ddp", 2, "zero3")],
)
def test_a_killed_run_resumes_on_other_ranks_and_under_another_sharding(
    request: pytest.FixtureRequest, home: Path, whole: Path, kind: str, ranks: int, other: str
) -> None:
    """On another number of ranks, and by another engine: a checkpoint knows neither."""
    if "zero" in kind + other:
        request.getfixturevalue("zero")
    output = home / f"{kind}-{ranks}-{other}"
    for name in {kind, other}:
        file = yaml.safe_load((ROOT / "recipes" / "accelerate" / f"{name}.yaml").read_text())
        (home / f"{name}-stopped.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))
    process = start(*command(home, output, f"accelerate={home}/{kind}-stopped.yaml"), ranks=2)
    wait_for_checkpoint(process, output)
    kill(process)

    more = [f"accelerate={home}/{other}-stopped.yaml", "batch.micro_tokens=256"]
    printed = complete(home, output, *more, ranks=ranks)

    assert "resumes at step" in printed
    assert losses_of(output) == pytest.approx(losses_of(whole), rel=1e-5)


@slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero2", "zero3"])
def test_sharded_runs_stopped_in_steps_and_evaluations_are_those_that_nothing_stopped(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, kind: str
) -> None:
    """One of two ranks gets SIGTERM between micro-batches, in an evaluation, and in the last one; weights are equal."""
    if "zero" in kind:
        request.getfixturevalue("zero")
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / f"{kind}.yaml").read_text())
    (tmp_path / "sharding.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))
    steps = ["batch.global_tokens=2048", "batch.micro_tokens=256", "schedule.total_tokens=24576"]
    more = [*steps, "evaluation.every_steps=6", "model.changes.resid_pdrop=0.1", f"accelerate={tmp_path}/sharding.yaml"]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *list_agent_options(),
        "--standalone",
        "--nproc-per-node=2",
    ]

    def pretrain(output: str, code: int, stop: str = "never 0") -> str:
        arguments = command(home, tmp_path / output, *more)[2:]
        supervised = ["-m", "codeshell_hf.commands.supervisor", *torchrun, "-m", "tests.recipes.stopped_pretraining"]
        return finish(start(*supervised, *arguments, STOP=stop), code)

    pretrain("whole", 0)
    in_a_step = pretrain("stopped", 75, "step 4")
    in_an_evaluation = pretrain("stopped", 75, "evaluation 6")
    in_the_last = pretrain("stopped", 75, "evaluation 12")
    pretrain("stopped", 0)

    assert "saved step 3 of 12; run the same command again" in in_a_step
    assert "resumes at step 3 of 12" in in_an_evaluation
    assert "saved step 6 of 12; run the same command again" in in_an_evaluation
    assert "saved step 12 of 12; run the same command again" in in_the_last
    logs = [read_log(tmp_path / name) for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert [entry["step"] for entry in logs[0] if "bits_per_byte" in entry] == [0, 6, 12]
    models = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert models[0] == models[1]


def write_mesh(home: Path, name: str, **sizes: int) -> str:
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / "mesh.yaml").read_text())
    parallel = {f"parallelism_config_{size}_size": sizes.get(size, 1) for size in ("dp_replicate", "tp", "cp")}
    (home / f"{name}.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no", "parallelism_config": parallel}))
    return f"accelerate={home}/{name}.yaml"


@slow
def test_a_run_goes_on_from_tensors_to_one_rank_and_to_contexts(home: Path, tmp_path: Path) -> None:
    """Four ranks as 2 x 2, one, and four again: losses and held-out bits are those of a run on one."""
    flat = ["schedule.floor_fraction=1", "schedule.phases=[{until_fraction: 1.0, row_tokens: 64}]"]
    output, tensors, contexts = tmp_path / "meshes", write_mesh(home, "tp", tp=2), write_mesh(home, "cp", cp=2)
    assert run(home, tmp_path / "whole", *flat, "schedule.total_tokens=12288") == 0

    printed = complete(home, output, *flat, tensors, "schedule.total_tokens=4096", ranks=4)
    complete(home, output, *flat, "schedule.total_tokens=8192")
    again = complete(home, output, *flat, contexts, "schedule.total_tokens=12288", ranks=4)

    assert "by FSDP2, tp 2 (FSDPMeshModel of DTensor), 4 steps of 1,024 tokens on 4 cpu processes" in printed
    assert "resumes at step 8 of 12" in again
    assert "attention by context" in again
    assert losses_of(output) == pytest.approx(losses_of(tmp_path / "whole"), rel=1e-5)
    bits = [read_manifest(folder).measures["bits_per_byte_after"] for folder in (output, tmp_path / "whole")]
    assert bits[0] == pytest.approx(bits[1], rel=1e-4)
    weights, expected = (load_file(folder / "model" / "model.safetensors") for folder in (output, tmp_path / "whole"))
    assert all(np.allclose(weights[key], expected[key], atol=2e-4) for key in expected)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tp": 2}, "1 ranks do not make groups of 2, the product of tp and cp; start a multiple"),
        ({"dp_replicate": 3}, "1 ranks do not make 3 replicas; set a divisor"),
    ],
)
def test_a_mesh_that_the_ranks_do_not_make_is_one_line(
    home: Path, tmp_path: Path, capsys: Capture, sizes: dict[str, int], message: str
) -> None:
    assert run(home, tmp_path / "out", write_mesh(tmp_path, "mesh", **sizes)) == 2

    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pretrain: error: ")]
    assert len(complaints) == 1
    assert message in complaints[0]


def test_a_stopped_run_is_neither_lost_nor_bent_by_other_settings(
    home: Path, whole: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    output = tmp_path / "kept"
    stop_after(monkeypatch, 6)
    assert run(home, output) == 75
    checkpoints = output.with_name("kept.partial") / "checkpoints"
    before = sorted(checkpoints.rglob("*"))

    assert run(home, output, "optimizer.weight_decay=0.5") == 2
    assert "kept.partial was started with optimizer.weight_decay 0.1, and now it is 0.5" in capsys.readouterr().err
    assert run(home, output, "batch.micro_tokens=768") == 2
    assert "steps of 1,024 tokens, but this run would take 768; set batch.micro_tokens" in capsys.readouterr().err
    assert sorted(checkpoints.rglob("*")) == before
    assert run(home, output, "batch.micro_tokens=256", "log_every_steps=1", "checkpoint.keep=3") == 0

    assert losses_of(output) == pytest.approx(losses_of(whole), rel=1e-5)


def test_a_stopped_run_goes_on_with_a_lower_learning_rate(
    home: Path, whole: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    def rates_of(folder: Path) -> list[float]:
        entries = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        return [entry["learning_rate"] for entry in entries if "loss" in entry]

    output = tmp_path / "lower"
    stop_after(monkeypatch, 6)
    assert run(home, output) == 75
    taken = len(rates_of(output.with_name("lower.partial")))

    assert run(home, output, "optimizer.learning_rate=1e-3", "guard.max_skips=5") == 0

    before, after = rates_of(whole), rates_of(output)
    assert 0 < taken < len(after) == len(before)
    assert after[:taken] == before[:taken]
    assert after[taken:] == pytest.approx([rate / 3 for rate in before[taken:]])


def test_a_finished_run_is_extended_with_its_moments(home: Path, tmp_path: Path, capsys: Capture) -> None:
    flat = ["schedule.floor_fraction=1", "schedule.phases=[{until_fraction: 1.0, row_tokens: 64}]"]
    assert run(home, tmp_path / "whole", *flat, "schedule.total_tokens=12288") == 0
    assert run(home, tmp_path / "longer", *flat, "schedule.total_tokens=8192") == 0
    capsys.readouterr()

    assert run(home, tmp_path / "longer", *flat, "schedule.total_tokens=12288") == 0

    printed = capsys.readouterr().out
    assert "longer from its checkpoints: schedule.total_tokens was 8192 and is 12288" in printed
    assert "resumes at step 8 of 12" in printed
    assert losses_of(tmp_path / "longer") == losses_of(tmp_path / "whole")
    assert run(home, tmp_path / "longer", *flat, "schedule.total_tokens=12288") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_an_extended_run_goes_back_to_its_peak(home: Path, tmp_path: Path, capsys: Capture) -> None:
    shape = ["schedule.floor_fraction=0", "schedule.decay=linear", "schedule.decay_fraction=0.25"]
    shape += ["schedule.phases=[{until_fraction: 1.0, row_tokens: 64}]", "checkpoint.keep=1"]
    assert run(home, tmp_path / "whole", *shape, "schedule.total_tokens=12288") == 0
    assert run(home, tmp_path / "longer", *shape, "schedule.total_tokens=8192") == 0
    kept = sorted(path.name for path in (tmp_path / "longer" / "checkpoints").glob("step-*"))
    assert kept == ["step-00000006", "step-00000008"]  # the last before the decay of 2,048 tokens, and the last
    capsys.readouterr()

    assert run(home, tmp_path / "longer", *shape, "schedule.total_tokens=12288") == 0

    assert "resumes at step 6 of 12" in capsys.readouterr().out
    assert losses_of(tmp_path / "longer") == losses_of(tmp_path / "whole")


def test_a_shorter_run_is_trained_anew_and_not_cut_short(home: Path, tmp_path: Path, capsys: Capture) -> None:
    flat = ["schedule.floor_fraction=1", "schedule.phases=[{until_fraction: 1.0, row_tokens: 64}]"]
    output = tmp_path / "out"
    assert run(home, output, *flat, "schedule.total_tokens=12288") == 0

    assert run(home, output, *flat, "schedule.total_tokens=8192") == 0

    assert len(losses_of(output)) == 8
    assert counts_of(output)["tokens"] == 8192
    shutil.rmtree(output / "checkpoints")
    capsys.readouterr()
    assert run(home, output, *flat, "schedule.total_tokens=12288") == 2
    assert (
        "out has no checkpoints to continue from; set output to another folder, or --force" in capsys.readouterr().err
    )
    assert len(losses_of(output)) == 8


def test_a_run_of_an_earlier_release_is_extended(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """One that did not have all settings of today."""
    flat = ["schedule.floor_fraction=1", "schedule.phases=[{until_fraction: 1.0, row_tokens: 64}]"]
    output = tmp_path / "out"
    assert run(home, output, *flat, "schedule.total_tokens=8192") == 0
    manifest = json.loads((output / "manifest.json").read_text())
    del manifest["settings"]["optimizer"]["z_loss"], manifest["settings"]["schedule"]["decay"]
    (output / "manifest.json").write_text(json.dumps(manifest))

    assert run(home, output, *flat, "schedule.total_tokens=12288") == 0

    assert "resumes at step 8 of 12" in capsys.readouterr().out


def test_a_finished_run_is_not_extended_over_phases_that_move(home: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "phases"
    assert run(home, output) == 0
    before = losses_of(output)

    assert run(home, output, "schedule.total_tokens=40960") == 2
    assert "256 from token 18,432, but schedule.phases now places 64 from token 0" in capsys.readouterr().err
    assert losses_of(output) == before
    phases = "schedule.phases=[{until_fraction: 0.45, row_tokens: 64}, {until_fraction: 1.0, row_tokens: 256}]"
    assert run(home, output, "schedule.total_tokens=40960", phases) == 0
    assert losses_of(output)[:20] == before
    assert len(losses_of(output)) == 40


@slow
def test_accelerate_launches_the_loop_with_its_own_file(home: Path, whole: Path) -> None:
    launcher = ["-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]

    printed = finish(start(*launcher, *command(home, home / "launched")))

    assert "by one process (TrainedModel of Parameter)" in printed
    assert losses_of(home / "launched") == losses_of(whole)


@slow
def test_two_agents_finish_the_run_after_one_was_killed(home: Path, whole: Path) -> None:
    """Two nodes on loopback, as recipes/launch/torchrun.sh starts them; the second dies and is started again."""
    output = home / "nodes"
    port = random.Random(os.getpid()).randrange(20_000, 60_000)

    def start_node(rank: int) -> subprocess.Popen:
        launcher = ["sh", "recipes/launch/torchrun.sh"]
        return subprocess.Popen(
            [*launcher, str(home / "pretrain.yaml"), f"output={output}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "NODES": "2",
                "PER_NODE": "1",
                "HEAD": f"127.0.0.1:{port}",
                "NODE_RANK": str(rank),
                "PYTHON": sys.executable,
            },
            start_new_session=True,
        )

    nodes = [start_node(0), start_node(1)]
    wait_for_checkpoint(nodes[0], output)
    kill(nodes[1])
    nodes[1] = start_node(1)

    try:
        printed = finish(nodes[0]) + finish(nodes[1])  # either may hold the first rank
    finally:
        for node in nodes:
            if node.poll() is None:
                kill(node)
    assert "resumes at step" in printed
    assert losses_of(output) == pytest.approx(losses_of(whole), rel=1e-5)


def run(home: Path, output: Path, *more: str) -> int:
    return main(STAGE, [str(home / "pretrain.yaml"), f"output={output}", *more])


@slow
def test_broken_checkpoints_are_skipped_and_the_one_before_them_is_used(home: Path, whole: Path) -> None:
    output = home / "broken"
    more = ["checkpoint.every_steps=2", "checkpoint.keep=4"]
    process = start(*command(home, output, *more))
    checkpoints = output.with_name("broken.partial") / "checkpoints"
    while len(list(checkpoints.glob("step-*"))) < 4:
        assert process.poll() is None, read_output(process)
        time.sleep(0.01)
    kill(process)
    found = sorted(checkpoints.glob("step-*"))
    shards = next(found[-1].glob("*.distcp"))
    shards.write_bytes(shards.read_bytes()[:-1] + b"x")
    (found[-2] / "checkpoint.json").unlink()
    next(found[-3].glob("*.distcp")).unlink()

    printed = complete(home, output, *more)

    assert printed.count("it is renamed to broken-step-") == 3
    assert f"resumes at step {int(found[-4].name.removeprefix('step-'))} of 20" in printed
    assert losses_of(output) == losses_of(whole)


def test_checkpoints_are_kept_in_number_and_some_for_good(home: Path, tmp_path: Path) -> None:
    assert run(home, tmp_path / "out", "checkpoint={every_steps: 3, keep: 2, keep_every_steps: 6}") == 0

    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").glob("step-*"))
    assert kept == [f"step-{step:08d}" for step in (6, 12, 18, 20)]


def test_skipped_steps_are_counted_and_a_run_that_diverges_fails_in_the_end(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    wild = ["optimizer.learning_rate=1e30", "schedule.warmup_tokens=0", "optimizer.max_gradient_norm=null"]

    assert run(home, tmp_path / "out", *wild, "guard.max_skips=3", "checkpoint.every_steps=100") == 1
    assert "3 steps in a row were skipped by step" in capsys.readouterr().err


def test_a_run_rolls_back_to_older_weights_and_goes_on_with_newer_data(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A rate that is far too high makes norms jump, and what is called a spike is little."""
    guard = "guard={max_norm_ratio: 1.05, warmup_steps: 4, max_skips: 2, max_rollbacks: 1000}"
    wild = ["optimizer.learning_rate=0.5", "optimizer.max_gradient_norm=null", "schedule.warmup_tokens=0"]

    assert run(home, tmp_path / "out", guard, *wild, "checkpoint.every_steps=2") == 0

    entries = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "loss" in entry]
    skipped = sum("is_skipped" in entry for entry in steps)
    assert len(steps) == 20
    assert skipped == counts_of(tmp_path / "out")["skipped_steps"] > 1
    assert "steps skipped: rolled back" in capsys.readouterr().out


def test_trackers_and_exports_hold_what_the_log_holds(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    more = ["trackers=[tensorboard]", "evaluation={every_steps: 8, exports: true, max_bytes_per_language: 4000}"]
    assert run(home, tmp_path / "out", *more) == 0

    events = EventAccumulator(str(tmp_path / "out" / "tracking" / "codeshell-pretrain")).Reload()
    shown = {event.step: event.value for event in events.Scalars("loss")}
    losses = losses_of(tmp_path / "out")
    assert shown == pytest.approx({step: losses[step - 1] for step in (5, 10, 15, 20)})
    assert len(events.Scalars("bits_per_byte/python")) == 3
    exports = sorted((tmp_path / "out" / "exports").iterdir())
    assert [path.name for path in exports] == ["step-00000008", "step-00000016"]
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(exports[0]).config.n_embd == 32


@slow
@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
def test_a_tracker_sees_one_run_through_a_stop(home: Path, tmp_path: Path, monkeypatch: Patch, tracker: str) -> None:
    pytest.importorskip(tracker, reason=f"{tracker} is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    output = tmp_path / "out"
    more = [f"trackers=[{tracker}]", "log_every_steps=1"]
    process = start(*command(home, output, *more))
    wait_for_checkpoint(process, output)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 75

    complete(home, output, *more)

    name = (output / "tracking" / "run").read_text()
    if tracker == "wandb":
        parts = sorted((output / "tracking" / "wandb").glob("offline-run-*"))
        assert len(parts) == 2
        assert all(part.name.endswith(f"-{name}") for part in parts)
    else:
        with sqlite3.connect(tmp_path / "trackio" / "codeshell-pretrain.db") as base:
            assert base.execute("select distinct run_name from metrics").fetchall() == [(name,)]
            rows = base.execute("select step, metrics from metrics order by id").fetchall()
        shown = {step: json.loads(values)["loss"] for step, values in rows if "loss" in json.loads(values)}
        assert shown == pytest.approx(dict(enumerate(losses_of(output), start=1)))


@slow
def test_benchmarks_run_in_the_background_of_the_training(
    home: Path, whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    task = {
        "profile": "line-completion-v1", "max_new_tokens": 4,
        "data": str(ROOT / "recipes" / "nano" / "data" / "benchmarks" / "lines.jsonl"),
    }  # fmt: skip
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump({"output": "x", "models": {}, "tasks": {"lines": task}}))
    given = "evaluation={every_steps: 16, exports: true, max_bytes_per_language: 8000, benchmarks: BENCH}"
    more = given.replace("BENCH", str(tmp_path / "bench.yaml"))
    alone = f"evaluation={{benchmarks: {tmp_path}/bench.yaml, max_bytes_per_language: 8000}}"
    assert run(home, tmp_path / "none", alone) == 2
    assert "set evaluation.exports: true" in capsys.readouterr().err

    assert run(home, tmp_path / "out", more) == 0

    entries = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    shown = {entry["step"]: entry["benchmarks"] for entry in entries if "benchmarks" in entry}
    assert sorted(shown) == [16]
    assert set(shown[16]) == {"lines: exact match", "lines: edit similarity", "lines: bleu"}
    # The exports are gathered between steps, and with them threads: equal to rounding.
    assert losses_of(tmp_path / "out") == pytest.approx(losses_of(whole), rel=1e-5)
    assert "lines: exact match" in capsys.readouterr().out


@slow
def test_benchmarks_that_fail_do_not_stop_the_training(home: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bench.yaml").write_text("{output: x, tasks: {a: {profile: none-v1, data: x}}}")
    more = "evaluation={every_steps: 16, exports: true, max_bytes_per_language: 4000, benchmarks: BENCH}"

    assert run(home, tmp_path / "out", more.replace("BENCH", str(tmp_path / "bench.yaml"))) == 0

    printed = capsys.readouterr().out
    assert printed.count("benchmarks failed, training continues: evaluate: error: x does not exist") == 1


def test_loss_by_position_is_measured_before_and_after_the_change_of_length(home: Path, whole: Path) -> None:
    entries = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    measured = [entry for entry in entries if "loss_by_position" in entry]

    assert [entry["step"] for entry in measured] == [18, 20]
    assert all(len(entry["loss_by_position"]) == 16 for entry in measured)
    assert (whole / "positions.svg").stat().st_size > 1000


def test_further_training_starts_from_a_checkpoint(home: Path, whole: Path, tmp_path: Path) -> None:
    assert run(home, tmp_path / "on", f"model={{start_from: {whole}/model}}", "schedule.total_tokens=4096") == 0

    assert losses_of(tmp_path / "on")[0] < losses_of(whole)[0] - 0.5


def test_mixtures_characters_and_foreign_shards_train(home: Path, tmp_path: Path) -> None:
    tokens = np.concatenate(list(TokenShards(home / "pack" / "train")))
    (tmp_path / "ds").mkdir()
    tokens[:6000].tofile(tmp_path / "ds" / "0.ds")
    np.array([2000, 6000], "<u8").tofile(tmp_path / "ds" / "0.ds.index")
    more = [f"mixture=[{{shards: {tmp_path}/ds, share: 0.25}}]", "infilling.cuts={character: 1}"]

    assert run(home, tmp_path / "out", *more, "schedule.total_tokens=8192", "schedule.max_epochs=3.0") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["shards=HOME/nowhere"], "HOME/nowhere does not exist; name a file or folder that does"),
        (["tokenizer=OTHER"], "was packed with another tokenizer than"),
        (["shards=DS"], "token 60000, but the vocabulary has"),
        (["schedule.warmup_tokens=20480"], "but the run ends after 20480; set it to less"),
        (["schedule.max_epochs=0.01"], "set fewer tokens, or pack more"),
        (["model.changes.vocab_size=300"], "set model.changes.vocab_size to"),
        (["schedule.phases=[{until_fraction: 1.0, row_tokens: 48}]"], "rows of 48 do not divide"),
        (["model.start_from=HOME/nowhere"], "name a complete CodeShell checkpoint"),
        (["accelerate=HOME/nowhere.yaml"], "which cannot be read"),
        (
            ["accelerate=recipes/accelerate/fsdp2.yaml"],
            "asks for another mixed_precision than float32; make them agree",
        ),
        (["mixture=[{shards: HOME/pack, share: 0.7}, {shards: HOME/pack, share: 0.6}]"], "let the first be above 0"),
        (["optimizer.name=muon", "accelerate=ZERO"], "but ZeRO supports only AdamW; set it to adamw"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(
    home: Path, tmp_path: Path, capsys: Capture, more: list[str], message: str
) -> None:
    if "accelerate=ZERO" in more and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    other = train_bpe(iter(["def other(): return 1\n"] * 20), vocab_size=300)
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "ds").mkdir()
    np.array([5, 60000], np.uint16).tofile(tmp_path / "ds" / "0.ds")
    np.array([2], "<u8").tofile(tmp_path / "ds" / "0.ds.index")
    file = yaml.safe_load((ROOT / "recipes" / "accelerate" / "zero2.yaml").read_text())
    (tmp_path / "zero.yaml").write_text(yaml.safe_dump(file | {"mixed_precision": "no"}))
    places = {"HOME": home, "OTHER": tmp_path / "other", "DS": tmp_path / "ds", "ZERO": tmp_path / "zero.yaml"}
    for name, place in places.items():
        more = [option.replace(name, str(place)) for option in more]
        message = message.replace(name, str(place))

    assert run(home, tmp_path / "out", *more) == 2

    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pretrain: error: ")]
    assert len(complaints) == 1
    assert message in complaints[0]


def test_weights_in_bfloat16_are_trained_evaluated_and_exported_on_a_cpu(home: Path, tmp_path: Path) -> None:
    more = [
        *("precision=bfloat16", "optimizer.weights=bfloat16", "optimizer.moments=8bit"),
        *("schedule.total_tokens=4096", "schedule.warmup_tokens=1024", "evaluation.max_bytes_per_language=2000"),
    ]

    assert run(home, tmp_path / "out", *more) == 0

    weights = load_file(tmp_path / "out" / "model" / "model.safetensors")
    model = load_model(str(tmp_path / "out" / "model"), dtype=torch.float32)
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    entries = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    bits = [entry["bits_per_byte"]["python"] for entry in entries if "bits_per_byte" in entry]
    assert len(bits) == 2
    assert bits[1] < bits[0]


def test_a_checkpoint_of_another_model_is_refused(whole: Path) -> None:
    from codeshell_hf.errors import CheckpointError
    from codeshell_hf.presets import make_config
    from codeshell_hf.train.checkpoint import Checkpoints
    from codeshell_hf.train.engine import EngineOptions, make_engine
    from codeshell_hf.train.settings import CheckpointSettings, OptimizerSettings
    from recipes.with_accelerate import join_ranks

    with join_ranks() as ranks:
        config = make_config("nano", vocab_size=400, n_embd=48, n_head=4, n_layer=2, n_inner=64)
        engine = make_engine(
            config, OptimizerSettings(learning_rate=1e-3), EngineOptions(), device=ranks.device, seed=0
        )
        with pytest.raises(CheckpointError, match="is of another model or release; remove it to start over"):
            Checkpoints(whole / "checkpoints", engine, CheckpointSettings(keep=1)).load_weights()


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(name, marks=() if name == "code-34b-fsdp" else slow)  # windows, phases, a gate, an untied layer
        for name in sorted(path.parent.name for path in (ROOT / "recipes").glob("*/pretrain.yaml"))
        if name != "nano"
    ],
)
def test_every_system_takes_two_steps_with_a_tiny_model(home: Path, tmp_path: Path, system: str) -> None:
    """Nothing but sizes and places differs from the published file."""
    recipe = yaml.safe_load((ROOT / "recipes" / system / "pretrain.yaml").read_text())
    config = make_config(recipe["model"]["preset"])
    lengths = sorted({phase["row_tokens"] for phase in recipe["schedule"]["phases"]})
    small = dict(zip(lengths, (64, 256), strict=False))
    phases = [phase | {"row_tokens": small[phase["row_tokens"]]} for phase in recipe["schedule"]["phases"]]
    changes = {"vocab_size": 320, "n_embd": 32, "n_head": 4, "num_query_groups": 2, "n_layer": 2, "n_inner": 64}
    if config.sliding_window:
        changes["sliding_window"] = 32
    more = [
        f"shards={home}/pack",
        f"tokenizer={home}/tokenizer",
        f"model.changes={json.dumps(changes)}",
        "batch={global_tokens: 512, micro_tokens: 256}",
        f"schedule.phases={json.dumps(phases)}",
        "schedule.total_tokens=1024",
        "schedule.warmup_tokens=512",
        "evaluation.max_bytes_per_language=3000",
        "compiles=false",
    ]
    if "mixture" in recipe:
        mixed = [
            row | {"shards": f"{home}/pack", "min_row_tokens": small.get(row.get("min_row_tokens"), 0)}
            for row in recipe["mixture"]
        ]
        more.append(f"mixture={json.dumps(mixed)}")

    given = [str(ROOT / "recipes" / system / "pretrain.yaml"), f"output={tmp_path}/out", *more]
    assert main(STAGE, given) == 0

    assert counts_of(tmp_path / "out")["steps"] == 2


@slow
def test_blocks_are_compiled_each_by_itself(home: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile on a CPU needs g++")
    one = ["schedule={total_tokens: 1024, warmup_tokens: 0, phases: [{until_fraction: 1.0, row_tokens: 64}]}"]
    one.append(f"model.changes={json.dumps({'vocab_size': 320, 'n_embd': 32, 'n_head': 4, 'n_layer': 1})}")

    assert run(home, tmp_path / "plain", *one) == 0
    assert run(home, tmp_path / "compiled", *one, "compiles=true") == 0

    assert losses_of(tmp_path / "compiled") == pytest.approx(losses_of(tmp_path / "plain"), rel=1e-5)


def test_launch_files_parse_and_call_existing_ones(tmp_path: Path) -> None:
    folder = ROOT / "recipes" / "launch"
    for path in (folder / "torchrun.sh", folder / "slurm.sbatch"):
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    sky = yaml.safe_load((folder / "sky.yaml").read_text())
    assert {"name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run"} == sky.keys()
    assert (ROOT / sky["envs"]["SETTINGS"]).exists()
    assert (ROOT / sky["envs"]["SHARDING"]).exists()
    for text in (sky["run"], (folder / "slurm.sbatch").read_text()):
        assert "recipes/launch/torchrun.sh" in text
    bare = subprocess.run(["sh", str(folder / "torchrun.sh")], capture_output=True, text=True, check=False)
    assert (bare.returncode, bare.stderr[:6]) == (2, "usage:")
