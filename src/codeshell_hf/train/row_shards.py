"""A rank's rows of a parameter, which is whole, or whose rows FSDP2 has divided."""

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


def to_local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def find_shards(parameter: DTensor) -> tuple[DeviceMesh, int]:
    """The mesh of a parameter, and its dimension over which the rows are divided."""
    return parameter.device_mesh, parameter.placements.index(Shard(0))


def count_local_rows(rows: int, ranks: int) -> list[int]:
    """How many rows of a matrix each rank has, as `torch.chunk` divides them."""
    most = -(-rows // ranks)
    return [max(0, min(most, rows - rank * most)) for rank in range(ranks)]


def find_first_row(parameter: Tensor) -> int:
    """The number of this rank's first row in the whole parameter."""
    if not isinstance(parameter, DTensor):
        return 0
    mesh, dimension = find_shards(parameter)
    return sum(count_local_rows(parameter.shape[0], mesh.size(dimension))[: mesh.get_local_rank(dimension)])


def like_local(local: Tensor, parameter: Tensor) -> Tensor:
    """Makes a tensor of a rank's rows one that is divided as a parameter is, with the parameter's number of rows.

    Args:
        local: Shape (r, N), with the rank's r rows.
        parameter: Shape (R, M).

    Returns:
        Shape (R, N).
    """
    if not isinstance(parameter, DTensor):
        return local
    shape = parameter.shape[:1] + local.shape[1:]
    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, run_check=False, shape=shape,
        stride=local.new_empty(shape, device="meta").stride(),
    )  # fmt: skip
