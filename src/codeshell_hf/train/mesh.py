"""The mesh of ranks: replicas, shards, contexts and tensors, innermost last, as accelerate's `ParallelismConfig`.

Neighbouring ranks share matrices (tensor parallelism), the next ones rows' positions (context parallelism), and FSDP2
shards what remains. Embedding, last norm and output layer are computed position by position, and all ranks of a replica
have different positions: these parameters are sharded over all of them, and are neither split nor repeated.
"""

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate

from ..errors import SettingsError
from .row_slices import RowSlicer
from .sharding import Sharding


@dataclass(frozen=True)
class Mesh:
    """The groups of this rank.

    Args:
        blocks: FSDP2's for the blocks: shards, which contexts share; before them the replicas, if there are any.
        ends: FSDP2's for what is outside of the blocks: shards, contexts and tensors.
        tensor: Ranks that share the blocks' matrices.
        context: Ranks that share a row's positions, and exchange keys and values.
        together: Ranks that compute the same rows: contexts and tensors.
        ranks: All.
        slicer: This rank's positions of a row.
        row_pieces: The number that must divide a row's length.
    """

    blocks: DeviceMesh
    ends: DeviceMesh
    tensor: DeviceMesh
    context: dist.ProcessGroup
    together: dist.ProcessGroup
    ranks: DeviceMesh
    slicer: RowSlicer
    row_pieces: int


def make_mesh(sharding: Sharding, ranks: int, device_type: str) -> Mesh:
    """Makes the groups; every rank of the default process group calls it.

    Raises:
        SettingsError: If the ranks do not make such a mesh.
    """
    size = sharding.replicas * sharding.together
    if ranks % size:
        raise SettingsError(
            f"{ranks} ranks do not make {sharding.replicas} replicas of tp {sharding.tensor} x cp {sharding.context}; "
            f"start a multiple of {size}"
        )
    shape = (sharding.replicas, ranks // size, sharding.context, sharding.tensor)
    mesh = init_device_mesh(device_type, shape, mesh_dim_names=("replicas", "shards", "context", "tensor"))
    blocks = mesh["shards", "context"]._flatten("blocks")  # noqa: SLF001 - torch has no public name for it
    ends = mesh["shards", "context", "tensor"]._flatten("ends")  # noqa: SLF001
    together = mesh["context", "tensor"]._flatten("together")  # noqa: SLF001
    if sharding.replicas > 1:
        blocks, ends = (DeviceMesh._concatenate([mesh["replicas"], part]) for part in (blocks, ends))  # noqa: SLF001
    slicer = RowSlicer(
        context_rank=mesh["context"].get_local_rank(),
        contexts=sharding.context,
        tensor_rank=mesh["tensor"].get_local_rank(),
        tensors=sharding.tensor,
    )
    return Mesh(
        blocks, ends, mesh["tensor"], mesh["context"].get_group(), together.get_group(),
        init_device_mesh(device_type, (ranks,), mesh_dim_names=("ranks",)), slicer, sharding.row_pieces,
    )  # fmt: skip


def count_copies(parameter: DTensor, ranks: int) -> int:
    """How many of all ranks have the same numbers of a parameter's local part."""
    mesh = parameter.device_mesh
    repeated = [mesh.size(place) for place, placement in enumerate(parameter.placements) if placement == Replicate()]
    copies = ranks // mesh.size()
    for size in repeated:
        copies *= size
    return copies
