"""Tensor parallelism of a block: each rank has some heads with their groups of keys and values, and a part of the MLP.

Between the matrices, in norms and residual sums, each rank has a part of the positions (sequence parallelism): what is
gathered before a matrix is reduced and scattered behind the next one, and nothing is computed twice.

Source:
    Shoeybi et al. 2019, "Megatron-LM", arXiv:1909.08053, section 3; Korthikanti et al. 2022, arXiv:2205.05198, section
    4.2.2, for the positions.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from ..configuration_codeshell import CodeShellConfig
from ..modeling_codeshell import CodeShellAttention

FUSED = (".attn.c_attn.weight", ".attn.c_attn.bias")  # whose rows are queries, keys and values


def order_fused_rows(config: CodeShellConfig, tensors: int) -> Tensor:
    """The rows of the fused projection in the order of the ranks, each with its heads' queries, keys and values.

    Rows of the whole matrix are the queries of all heads, then the keys and then the values of all groups. Head h reads
    group h // (H / G), so that the heads of consecutive groups are consecutive too.

    Returns:
        Row numbers, shape (H W + 2 G W,): row i of the split matrix is row order[i] of the whole one.
    """
    width = config.hidden_size // config.num_attention_heads
    groups = config.num_key_value_heads or config.num_attention_heads
    sizes = [config.num_attention_heads * width, groups * width, groups * width]
    rows = torch.arange(sum(sizes)).split(sizes)  # type: ignore[no-untyped-call]
    return torch.cat([part.chunk(tensors)[rank] for rank in range(tensors) for part in rows])


def split_block(block: nn.Module, mesh: DeviceMesh) -> None:
    """Splits the parameters of a block over a mesh of one dimension; inputs and outputs are parts of the positions.

    The rows of the fused projection are taken to be in the order of `order_fused_rows`.
    """
    gathered = PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))
    plan: dict[str, ParallelStyle] = {
        "ln_1": SequenceParallel(use_local_output=True),
        "attn": gathered,
        "attn.c_attn": ColwiseParallel(),
        "attn.c_proj": RowwiseParallel(output_layouts=Shard(1)),
        "ln_2": SequenceParallel(use_local_output=True),
        "mlp": gathered,
        "mlp.c_fc": ColwiseParallel(),
        "mlp.c_proj": RowwiseParallel(output_layouts=Shard(1)),
    }
    if block.get_submodule("mlp").c_gate is not None:
        plan["mlp.c_gate"] = ColwiseParallel()
    parallelize_module(block, mesh, plan)
    attention = cast(CodeShellAttention, block.get_submodule("attn"))
    attention.query_dim //= mesh.size()
    attention.kv_dim //= mesh.size()


def split_positions(block: nn.Module, mesh: DeviceMesh) -> None:
    """Gives the first block a rank's part of the positions, as every later one gets it."""

    def cut(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *others = inputs
        return (hidden.chunk(mesh.size(), dim=1)[mesh.get_local_rank()], *others)

    block.register_forward_pre_hook(cut)
