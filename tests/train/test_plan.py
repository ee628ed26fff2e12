"""The plan of a run: memory as it is allocated, layouts that fit or are refused, and days."""

from pathlib import Path
from typing import Any

import pytest
import torch

from codeshell_hf.commands.plan import main
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.train.loss import TrainedModel
from codeshell_hf.train.memory import Layout, count_activations, count_logits, estimate_memory
from codeshell_hf.train.optimizer import make_optimizers
from codeshell_hf.train.settings import OptimizerSettings

ROOT = Path(__file__).parents[2]
SMALL = {"n_embd": 96, "n_layer": 3, "n_head": 6, "n_inner": 384, "vocab_size": 500}


def allocate(config: Any, *, is_bf16: bool, recomputes: bool, rows: int = 2, row_tokens: int = 128) -> dict[str, int]:
    """Runs a step and adds up the storages that are there: what is kept for the backward pass, and what stays."""
    from codeshell_hf import CodeShellForCausalLM

    torch.manual_seed(0)
    model = CodeShellForCausalLM(config).train()
    if recomputes:
        model.gradient_checkpointing_enable()
    (adamw,) = make_optimizers(model, OptimizerSettings(learning_rate=1e-3))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)  # a storage that is freed could come again
        # Weights stay in any case, and so do the copies that autocast makes of them, of two dimensions.
        is_weight = tensor.untyped_storage().data_ptr() in weights or tensor.shape in shapes
        if not is_weight and config.vocab_size not in tensor.shape:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    shapes = {shape for parameter in model.parameters() if parameter.ndim == 2
              for shape in (parameter.shape, parameter.T.shape)}  # fmt: skip
    ids = torch.randint(0, config.vocab_size, (rows, row_tokens))
    positions = torch.arange(row_tokens).repeat(rows, 1)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=is_bf16),
    ):
        loss = TrainedModel(model)(input_ids=ids, labels=ids, position_ids=positions)
    loss.backward()
    adamw.step()
    moments = [value for state in adamw.state.values() for value in state.values() if value.ndim]
    return {
        "weights": sum(parameter.nbytes for parameter in model.parameters()),
        "gradients": sum(parameter.grad.nbytes for parameter in model.parameters()),
        "moments": sum(value.nbytes for value in moments),
        "activations": sum(held.values()),
    }


@pytest.mark.parametrize("is_bf16", [False, True])
@pytest.mark.parametrize("more", [{}, {"activation_function": "swiglu"}, {"num_query_groups": 6}, {"n_inner": 1000}])
def test_memory_is_what_a_small_run_allocates(*, is_bf16: bool, more: dict[str, object]) -> None:
    config = make_config("nano", **(SMALL | more))
    layout = Layout("ddp", 3, 1, micro_tokens=256, is_bf16=is_bf16)

    found = allocate(config, is_bf16=is_bf16, recomputes=False)
    planned = estimate_memory(config, layout)

    copies = 2 * count_parameters(config) if is_bf16 else 0
    assert planned.weights - copies == found["weights"]
    assert planned.gradients == found["gradients"]
    assert planned.moments == found["moments"]
    assert planned.activations == pytest.approx(found["activations"], rel=0.1)


def test_recomputing_keeps_a_block_and_the_inputs_of_all() -> None:
    config = make_config("nano", **SMALL)
    layout = Layout("ddp", 3, 1, micro_tokens=256, is_bf16=False, recomputes=True)

    inputs = allocate(config, is_bf16=False, recomputes=True)["activations"]
    block = allocate(make_config("nano", **(SMALL | {"n_layer": 1})), is_bf16=False, recomputes=False)["activations"]

    # While the last block is computed again, its own activations are there besides.
    ends = 256 * 4 * (2 * config.n_embd + 2 * (config.n_embd // config.n_head))
    assert count_activations(config, layout) == pytest.approx(inputs + block - ends, rel=0.1)


def test_chunked_logits_take_no_more_than_a_chunk_and_their_gradients() -> None:
    wide = make_config("codeshell-7b")
    layout = Layout("fsdp2", 3, 8, micro_tokens=16_384)

    assert count_logits(wide, layout) < 2.2e9 < 16_384 * wide.vocab_size * 4


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_plan_tells_memory_steps_and_days(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "codeshell-7b" / "pretrain.yaml"
    sharding = f"accelerate={ROOT}/recipes/accelerate/fsdp2.yaml"

    code, printed = run(capsys, recipe, "gpus=120", sharding)
    _, faster = run(capsys, recipe, "gpus=120", "mfu=0.5", sharding)

    assert code == 0
    assert "7,688,048,640 parameters by FSDP2 on 120 x a100-80g" in printed
    assert "127,000 steps of 3,932,160 tokens: 120 GPUs x 2 forward passes of 16,384 tokens" in printed
    assert "rows of 2,048: 449.45 billion tokens" in printed

    def days(text: str) -> float:
        return float(next(line for line in text.splitlines() if " days, " in line).split()[0])

    assert days(faster) == pytest.approx(days(printed) * 0.8, rel=0.01)


def test_a_batch_that_does_not_divide_is_rounded_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "code-34b-zero3" / "pretrain.yaml"

    code, printed = run(
        *(capsys, recipe, "gpus=128", "batch.global_tokens=2_500_000"),
        f"accelerate={ROOT}/recipes/accelerate/zero3.yaml",
    )

    assert code == 0
    assert "a step of 2,500,000 tokens does not divide: 2,621,440 are taken" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpus=256", "accelerate=ROOT/recipes/accelerate/zero2.yaml"], "(weights: 68.5 GB); it fits with accelerate="),
        (["gpus=8"], "DDP needs"),
        (["gpus=none"], "gpus is none; set it to a whole number from 1"),
        (["gpu=v100"], "unknown key 'v100' in gpu"),
        (["mfu=2"], "mfu is 2; set it to a share above 0 and up to 1"),
        (["gpus=3", "accelerate=ROOT/recipes/accelerate/hsdp.yaml"], "which 2 replicas do not divide"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    recipe = ROOT / "recipes" / "code-34b-fsdp" / "pretrain.yaml"

    code, printed = run(capsys, recipe, *(argument.replace("ROOT", str(ROOT)) for argument in arguments))

    assert code == 2
    assert message in printed


def test_what_is_suggested_fits(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes" / "general-65b-zero3" / "pretrain.yaml"
    _, refused = run(capsys, recipe, "gpus=8", "gpu=a100-40g")
    mends = refused.partition("it fits with ")[2].split()

    merged = {"gpus": "8", **dict(mend.split("=") for mend in mends)}
    if "accelerate" in merged:
        merged["accelerate"] = f"{ROOT}/{merged['accelerate']}"
    code, printed = run(capsys, recipe, "gpu=a100-40g", *(f"{key}={value}" for key, value in merged.items()))

    assert mends
    assert code == 0, printed
