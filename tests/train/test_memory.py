"""Memory of a step, against what a small one allocates and against shares counted by hand."""

from typing import Any, Literal

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.train.loss import TrainedModel
from codeshell_hf.train.memory import Layout, count_activations, count_logits, estimate_memory
from codeshell_hf.train.optimizer import make_optimizers
from codeshell_hf.train.settings import MomentFormat, OptimizerSettings

SMALL = {"n_embd": 96, "n_layer": 3, "n_head": 6, "n_inner": 384, "vocab_size": 500}


def allocate(config: Any, *, is_bf16: bool, recomputes: bool, rows: int = 2, row_tokens: int = 128) -> dict[str, int]:
    """Runs a step and adds up the storages that are there: what is kept for the backward pass, and what stays."""
    torch.manual_seed(0)
    model = CodeShellForCausalLM(config).train()
    if is_bf16:  # the residual stream, as engines have it
        model.transformer.wte.register_forward_hook(lambda module, given, output: output.bfloat16())
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


@pytest.mark.parametrize(
    ("kind", "micro_tokens", "measured"),
    [("ddp", 16_384, 48.5), ("fsdp2", 16_384, 46.6), ("ddp", 32_768, 74.3)],  # one H100, benchmarks/README.md
)
def test_memory_is_what_an_h100_needed(kind: Literal["ddp", "fsdp2"], micro_tokens: int, measured: float) -> None:
    planned = estimate_memory(make_config("codeshell-small"), Layout(kind, 3, 1, micro_tokens))

    assert planned.total / 1e9 == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(("moments", "size"), [("bfloat16", 4), ("8bit", 2 + 2 * 4 / 256)])
def test_compact_moments_and_weights_are_counted(moments: MomentFormat, size: float) -> None:
    """On one GPU without autocast's copy of the weights; sharded by FSDP2 over all."""
    config = make_config("nano", **SMALL)
    numbers = count_parameters(config)

    alone = estimate_memory(config, Layout("ddp", 3, 1, micro_tokens=256, moments=moments, weights="bfloat16"))
    shared = estimate_memory(config, Layout("fsdp2", 3, 4, micro_tokens=256, moments=moments))

    assert (alone.weights, alone.gradients, alone.moments) == (2 * numbers, 4 * numbers, size * numbers)
    assert (shared.weights, shared.moments) == (4 * numbers / 4, size * numbers / 4)


@pytest.mark.parametrize("more", [{}, {"activation_function": "swiglu"}, {"num_query_groups": 6}])
@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_muons_moments_are_one_of_the_blocks_matrices_and_two_of_the_rest(
    moments: MomentFormat, more: dict[str, object]
) -> None:
    """As its optimisers allocate them; vectors have float32, which the plan leaves out with 8 bits."""
    config = make_config("nano", **(SMALL | more))
    model = CodeShellForCausalLM(config)
    optimizers = make_optimizers(model, OptimizerSettings(name="muon", learning_rate=1e-3, moments=moments))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    held = sum(value.nbytes for state in states for value in state.values() if value.ndim)

    planned = estimate_memory(config, Layout("ddp", 3, 1, micro_tokens=256, optimizer="muon", moments=moments))

    assert planned.moments == pytest.approx(held, rel=0 if moments == "float32" else 0.03)


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


def count_numbers() -> tuple[int, int, int]:
    """Numbers of the whole model, of one block, and of its ends: embedding and output layer, which are one here."""
    model = CodeShellForCausalLM(make_config("nano", **SMALL))
    block = sum(parameter.numel() for parameter in model.transformer.h[0].parameters())
    ends = sum(weight.numel() for weight in {model.transformer.wte.weight, model.lm_head.weight})
    return sum(parameter.numel() for parameter in model.parameters()), block, ends


@pytest.mark.parametrize(("ranks", "replicas"), [(8, 1), (8, 2)])
def test_fsdp2_shards_all_within_a_replica_and_gathers_the_ends_and_two_blocks(ranks: int, replicas: int) -> None:
    numbers, block, ends = count_numbers()
    layout = Layout("fsdp2", 3, ranks, micro_tokens=256, replicas=replicas, is_bf16=True)

    memory = estimate_memory(make_config("nano", **SMALL), layout)

    shards = ranks / replicas
    assert (memory.weights, memory.gradients) == (4 * numbers / shards, 4 * numbers / shards)
    assert memory.moments == 8 * numbers / shards
    # What is gathered is bfloat16; the gradients of the largest group are reduced in float32.
    assert memory.gathered == pytest.approx(2 * (ends + 2 * block) + 4 * max(ends, block), rel=0.01)


def test_tensors_split_blocks_and_all_ranks_shard_all() -> None:
    numbers, block, ends = count_numbers()
    layout = Layout("fsdp2", 3, 8, micro_tokens=256, tensor=2, context=2)

    memory = estimate_memory(make_config("nano", **SMALL), layout)

    assert (memory.weights, memory.moments) == (4 * numbers / 8, 8 * numbers / 8)
    assert memory.gathered == pytest.approx(2 * (ends + 2 * block / 2) + 4 * max(ends, block / 2), rel=0.01)


def test_ranks_that_compute_the_same_rows_share_activations_and_logits() -> None:
    """But what a tensor group gathers, two widths a token and block, and the keys and values of a context group."""
    config = make_config("nano", **SMALL)
    layers, width, keys = 3, 96, 2 * 32  # two groups of 16 wide heads; keys and values
    alone, tensor, context = (
        Layout("fsdp2", 3, 8, micro_tokens=256, is_bf16=False, tensor=tensor, context=context)
        for tensor, context in ((1, 1), (2, 1), (1, 2))
    )

    gathered = 4 * layers * 2 * width
    shared = count_activations(config, alone) / 256
    assert count_activations(config, tensor) / 256 == pytest.approx((shared - gathered) / 2 + gathered, rel=0.01)
    assert count_activations(config, context) / 256 == pytest.approx(shared / 2 + 4 * layers * keys, rel=0.01)
    assert count_logits(config, tensor) == count_logits(config, context) == count_logits(config, alone) / 2


def test_blocks_that_are_not_resharded_stay_gathered() -> None:
    numbers, block, ends = count_numbers()
    layout = Layout("fsdp2", 3, 8, micro_tokens=256, reshards=False)

    memory = estimate_memory(make_config("nano", **SMALL), layout)

    assert memory.gathered == pytest.approx(2 * numbers + 4 * max(ends, block), rel=0.01)


def test_zero_2_keeps_the_weights_whole_and_shards_what_is_stepped() -> None:
    numbers, _, _ = count_numbers()

    memory = estimate_memory(make_config("nano", **SMALL), Layout("zero", 2, 4, micro_tokens=256, is_bf16=True))

    # bfloat16 whole; of float32 a quarter of the weights, of the gradients and of two moments.
    assert memory.weights == 2 * numbers + 4 * numbers / 4
    assert memory.gradients == 4 * numbers / 4
    assert memory.moments == 8 * numbers / 4


def test_what_is_offloaded_is_not_in_the_devices_memory() -> None:
    config = make_config("nano", **SMALL)
    here, away = (
        estimate_memory(config, Layout("fsdp2", 3, 8, micro_tokens=256, offloads=offloads))
        for offloads in (False, True)
    )

    assert (away.weights, away.gradients, away.moments) == (0, 0, 0)
    assert away.total == here.total - here.weights - here.gradients - here.moments
