"""The plan of a run: memory as it is allocated, layouts that fit or are refused, and days."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from codeshell_hf import CodeShellConfig
from codeshell_hf.commands.plan import main
from codeshell_hf.train.checkpoint import Checkpoints
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.memory import Layout
from codeshell_hf.train.plan import count_checkpoint_bytes
from codeshell_hf.train.settings import CheckpointSettings, MomentFormat, OptimizerSettings
from recipes.with_accelerate import join_ranks
from tests.train.steps import make_run, save, take_step

ROOT = Path(__file__).parents[2]


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_plan_tells_memory_steps_and_days(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"
    sharding = f"accelerate={ROOT}/recipes/accelerate/fsdp2.yaml"

    code, printed = plan(capsys, recipe, "gpus=120", sharding)
    _, slower = plan(capsys, recipe, "gpus=120", "mfu=0.4", sharding)
    _, faster = plan(capsys, recipe, "gpus=120", "mfu=0.5", sharding)
    _, congested = plan(capsys, recipe, "gpus=120", "network=2.5", sharding)

    assert code == 0
    assert "7,688,048,640 parameters by FSDP2 on 120 x a100-80g" in printed
    assert "127,000 steps of 3,932,160 tokens: 120 GPUs x 2 forward passes of 16,384 tokens" in printed
    assert "rows of 2,048: 449.45 billion tokens" in printed

    def days(text: str) -> float:
        return float(next(line for line in text.splitlines() if " days, " in line).split()[0])

    assert days(faster) == pytest.approx(days(slower) * 0.8, rel=0.01)
    assert days(congested) > 2 * days(printed)
    # 12 bytes a parameter, 16 of a tied one; three are kept, one is being written, every 5,000th step's stays.
    assert "29 checkpoints of 93.4, 3 exports and the model of 30.8 each" in printed
    assert "52 evaluations, each on up to 2,000,000 bytes a language" in printed


@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_a_checkpoint_is_as_large_as_planned(
    make_config: Callable[..., CodeShellConfig], tmp_path: Path, moments: MomentFormat
) -> None:
    config = make_config(vocab_size=20_000, n_embd=256)  # beside whose weights the files' headers are small
    with join_ranks() as ranks:
        optimizer = OptimizerSettings(learning_rate=1e-2, moments=moments)
        engine = make_engine(config, optimizer, EngineOptions(), device=ranks.device, seed=0)
        checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
        take_step(engine, run)
        save(checkpoints, run)

    written = sum(path.stat().st_size for path in tmp_path.rglob("*.distcp"))

    layout = Layout("ddp", 3, 1, micro_tokens=256, moments=moments)
    assert count_checkpoint_bytes(config, layout) == pytest.approx(written, rel=0.05)


def test_7b_fits_one_card_with_moments_of_8_bits_and_weights_of_16(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: 7,688,048,640 x 2 bytes of weights, 4 of gradients, 2 + 2 x 4 / 256 of moments."""
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"

    refused, mend = plan(capsys, recipe, "gpus=1", "gpu=h100-80g")
    code, printed = plan(
        *(capsys, recipe, "gpus=1", "gpu=h100-80g"), "optimizer.moments=8bit", "optimizer.weights=bfloat16"
    )

    assert refused == 2
    assert mend.endswith("it fits with optimizer.moments=8bit optimizer.weights=bfloat16\n")
    assert code == 0
    lines = [line.split() for line in printed.splitlines()]
    for words in (["weights", "15.38"], ["gradients", "30.75"], ["moments", "15.62"]):
        assert words in lines


def test_a_batch_that_does_not_divide_is_rounded_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "code-34b-zero3" / "pretrain.yaml"

    code, printed = plan(
        *(capsys, recipe, "gpus=128", "batch.global_tokens=2_500_000"),
        f"accelerate={ROOT}/recipes/accelerate/zero3.yaml",
    )

    assert code == 0
    assert "a step of 2,500,000 tokens does not divide evenly: steps have 2,621,440 tokens" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpus=256", "accelerate=ROOT/recipes/accelerate/zero2.yaml"], "(weights: 68.5 GB); it fits with accelerate="),
        (["gpus=8"], "DDP needs"),
        (["gpus=none"], "gpus is none; set it to a whole number from 1"),
        (["gpu=v100"], "unknown key 'v100' in gpu"),
        (["mfu=2"], "mfu is 2; set it to a share above 0 and up to 1"),
        (["network=fast"], "network is fast; set it to gigabytes a second of a GPU"),
        (["gpus=3", "accelerate=ROOT/recipes/accelerate/hsdp.yaml"], "which 2 replicas do not divide"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    recipe = ROOT / "recipes" / "code-34b-fsdp" / "pretrain.yaml"

    code, printed = plan(capsys, recipe, *(argument.replace("ROOT", str(ROOT)) for argument in arguments))

    assert code == 2
    assert message in printed


def test_what_is_suggested_fits(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "general-65b-zero3" / "pretrain.yaml"
    _, refused = plan(capsys, recipe, "gpus=8", "gpu=a100-40g")
    mends = refused.partition("it fits with ")[2].split()

    merged = {"gpus": "8", **dict(mend.split("=") for mend in mends)}
    if "accelerate" in merged:
        merged["accelerate"] = f"{ROOT}/{merged['accelerate']}"
    code, printed = plan(capsys, recipe, "gpu=a100-40g", *(f"{key}={value}" for key, value in merged.items()))

    assert mends
    assert code == 0, printed


def test_a_mesh_is_planned_with_its_groups(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "instruct-65b-fsdp" / "pretrain.yaml"
    mesh = f"accelerate={ROOT}/recipes/accelerate/mesh.yaml"

    code, printed = plan(capsys, recipe, "gpus=256", "gpu=h100-80g", mesh)
    indivisible, refused = plan(capsys, recipe, "gpus=254", "gpu=h100-80g", mesh)

    assert code == 0
    assert "parameters by FSDP2, tp 2, cp 2 on 256 x h100-80g" in printed
    assert "tokens: 64 groups of 4 GPUs x " in printed
    assert indivisible == 2
    assert "gpus is 254, which 1 replicas of tp 2 x cp 2 do not divide; set a multiple" in refused


def test_a_row_that_no_gpu_holds_is_shared_by_several(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"
    rows = ["schedule.phases=[{until_fraction: 1.0, row_tokens: 524288}]", "batch.micro_tokens=524288"]
    rows += ["model.changes={n_positions: 524288}", f"accelerate={ROOT}/recipes/accelerate/fsdp2.yaml"]

    code, printed = plan(capsys, recipe, "gpus=128", "gpu=h100-80g", *rows)

    assert code == 2
    assert "it fits with accelerate=recipes/accelerate/mesh.yaml (tp " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["accelerate=ROOT/zero3.yaml", "optimizer.moments=8bit"], "8bit, but ZeRO-3 supports only float32; set it to"),
        (["accelerate=ROOT/mesh.yaml", "optimizer.moments=8bit"], "8bit, but FSDP2, tp 2, cp 2 supports only float32"),
        (
            ["accelerate=ROOT/fsdp2.yaml", "optimizer.weights=bfloat16"],
            "for one GPU without sharding, and this is FSDP2",
        ),
        (["optimizer.weights=bfloat16"], "for one GPU without sharding, and this is DDP on 8; set it to float32"),
        (["gpus=1", "optimizer.weights=bfloat16", "precision=float32"], "bfloat16, but precision is float32; set"),
        (["accelerate=ROOT/zero3.yaml", "optimizer.name=muon"], "muon, but ZeRO supports only AdamW; set it to adamw"),
        (["accelerate=ROOT/mesh.yaml", "optimizer.name=muon"], "muon, which needs whole matrices, but tp and cp"),
    ],
)
def test_what_the_engine_refuses_is_not_planned(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"
    places = [one.replace("ROOT", f"{ROOT}/recipes/accelerate") for one in arguments]

    code, printed = plan(capsys, recipe, "gpu=b200-180g", *({"gpus=8"} - set(places)), *places)

    assert code == 2
    assert message in printed


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (["gpus=1", "gpu=h100-80g", "precision=float32"], "optimizer.weights"),
        (["gpus=1", "gpu=h100-80g", "optimizer.name=muon"], "optimizer.weights"),
        (["gpus=8", "gpu=a100-40g", "optimizer.moments=8bit"], "zero3.yaml"),
        (["gpus=8", "gpu=a100-40g", "optimizer.name=muon"], "zero3.yaml"),
    ],
)
def test_what_the_engine_refuses_is_not_suggested(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], never: str
) -> None:
    """What is suggested instead is planned."""
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"

    code, printed = plan(capsys, recipe, *arguments)

    assert code == 2
    assert never not in printed
    suggested = printed.partition("it fits with ")[2].replace(' (with mixed_precision "no")', "").split()
    assert suggested
    given = dict(one.partition("=")[::2] for one in arguments + suggested)
    if file := given.get("accelerate"):
        values = yaml.safe_load((ROOT / file).read_text())
        changes = {"mixed_precision": "no"} if "mixed_precision" in printed else {}
        (tmp_path / "accelerate.yaml").write_text(yaml.safe_dump(values | changes))
        given["accelerate"] = str(tmp_path / "accelerate.yaml")
    assert plan(capsys, recipe, *(f"{name}={value}" for name, value in given.items()))[0] == 0
