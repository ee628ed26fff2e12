"""Muon: matrices of the blocks are updated along orthogonalised momentum.

Under FSDP2 each matrix has an owner among the ranks that share it. Two all-to-alls a round replace the collectives of
every product on sharded matrices: parts of the momentum go to the owners, and parts of the updates come back.

Source:
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is scalable
    for LLM training", arXiv:2502.16982, section 2.3, for momentum that is gathered where it is orthogonalised.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .row_shards import count_local_rows, find_first_row, find_shards, to_local

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
HELD_NUMBERS = 2**28  # of whole matrices that an owner has at once, and as many of updates


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Moves the singular values of a matrix close to 1 with Newton-Schulz iterations.

    Args:
        matrix: Shape (M, N).
        dtype: Of the products. torch's Muon supports only bfloat16, which is very slow on many CPUs.

    Returns:
        Shape (M, N), in that dtype; singular values are between 0.6 and 1.3, unless they were tiny.

    Source:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    linear, cubic, quintic = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype)  # so that the smaller square is computed
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=cubic, alpha=quintic), x, beta=linear)
    return x.T if is_tall else x


def update_matrix(momentum: Tensor, pieces: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The update of a whole matrix, each of its pieces orthogonalised by itself.

    Args:
        momentum: Shape (M, N).
        pieces: Rows of each piece, M in all: a fused projection is several matrices.
        dtype: Of the products.

    Returns:
        Shape (M, N), in that dtype.
    """
    updates = [orthogonalize(piece, dtype) for piece in torch.split(momentum, list(pieces))]
    return updates[0] if len(updates) == 1 else torch.cat(updates)


class Muon(torch.optim.Muon):
    """torch's Muon with iterations in any dtype and by pieces, sharded or whole; the state has the same format.

    Args:
        pieces: Rows of the pieces of a matrix, if it has several.
        dtype: Of the iterations.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype,
        pieces: Mapping[Tensor, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay)
        self._dtype = dtype
        self._pieces = pieces or {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            matrices = [
                _Matrix(
                    parameter,
                    partial(self._add_to_momentum, parameter, group["momentum"]),
                    self._pieces.get(parameter, (parameter.shape[0],)),
                )
                for parameter in parameters
            ]
            for matrix, update in _orthogonalize_all(matrices, self._dtype):
                weight = to_local(matrix.parameter)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                for rows, scale in matrix.list_scales():
                    weight[rows].add_(update[rows].to(weight.device), alpha=-group["lr"] * scale)
        return loss

    def _add_to_momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """This rank's part of a matrix's Nesterov momentum, in the dtype of the iterations."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None  # noqa: S101 - for mypy; `step` has looked
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = to_local(state["momentum_buffer"]).lerp_(to_local(gradient), 1 - momentum)
        return to_local(gradient).lerp(mean, momentum).to(self._dtype)


@dataclass(frozen=True)
class _Matrix:
    """A parameter, what adds its gradient to this rank's part of its momentum, and the rows of its pieces.

    Momenta in the iterations' dtype take memory: each is made, once, in the round that needs it.
    """

    parameter: nn.Parameter
    make_momentum: Callable[[], Tensor]
    pieces: Sequence[int]

    @property
    def local_shape(self) -> torch.Size:
        """Of this rank's part."""
        return to_local(self.parameter).shape

    @property
    def cost(self) -> int:
        """Proportional to the products of its iterations."""
        rows, columns = self.parameter.shape
        return rows * columns * min(rows, columns)

    def list_scales(self) -> Iterator[tuple[slice, float]]:
        """This rank's rows of each piece, and the piece's factor: the root of its rows over its columns, at least 1."""
        begin, count = -find_first_row(self.parameter), self.local_shape[0]
        for rows in self.pieces:
            here = slice(max(0, begin), min(count, begin + rows))
            if here.start < here.stop:
                yield here, math.sqrt(max(1.0, rows / self.parameter.shape[1]))
            begin += rows


def _orthogonalize_all(matrices: Sequence[_Matrix], dtype: torch.dtype) -> Iterator[tuple[_Matrix, Tensor]]:
    """Each matrix with this rank's part of its update."""
    for matrix in matrices:
        if not isinstance(matrix.parameter, DTensor):
            yield matrix, update_matrix(matrix.make_momentum(), matrix.pieces, dtype)
    sharded = [matrix for matrix in matrices if isinstance(matrix.parameter, DTensor)]
    if not sharded:
        return
    # Replicas have the same gradients, and each does the same among its own ranks.
    parameter = sharded[0].parameter
    assert isinstance(parameter, DTensor)  # noqa: S101 - for mypy
    mesh, dimension = find_shards(parameter)
    group = mesh.get_group(dimension)
    sizes = [(one.cost, one.parameter.numel()) for one in sharded]
    for owners in assign_owners(sizes, mesh.size(dimension), HELD_NUMBERS):
        owned = [[sharded[place] for place in places] for places in owners]
        updates = _exchange(owned, group, dtype, torch.device(mesh.device_type))
        yield from zip((matrix for some in owned for matrix in some), updates, strict=True)


def assign_owners(sizes: Sequence[tuple[int, int]], ranks: int, held_numbers: int) -> list[list[list[int]]]:
    """Divides matrices into rounds, and each round among the ranks, costly matrices first.

    Args:
        sizes: Cost and numbers of each matrix.
        ranks: How many there are.
        held_numbers: Of the matrices of a rank in a round, on average; a round has one matrix at least.

    Returns:
        The places of each rank's matrices, in each round.
    """
    rounds: list[list[list[int]]] = []
    loads, held = [0] * ranks, math.inf
    for place in sorted(range(len(sizes)), key=lambda one: -sizes[one][0]):
        cost, numbers = sizes[place]
        if held + numbers > ranks * held_numbers:
            rounds.append([[] for _ in range(ranks)])
            loads, held = [0] * ranks, 0
        owner = loads.index(min(loads))
        rounds[-1][owner].append(place)
        loads[owner] += cost
        held += numbers
    return rounds


def _exchange(
    owned: Sequence[Sequence[_Matrix]], group: dist.ProcessGroup, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """This rank's parts of the updates of all ranks' matrices, in order, from two all-to-alls."""
    ranks, own = range(len(owned)), owned[dist.get_rank(group)]
    rows = [count_local_rows(matrix.parameter.shape[0], len(owned)) for matrix in own]
    there = [matrix.local_shape for some in owned for matrix in some]  # this rank's parts of all matrices
    here = [
        torch.Size((some[rank], matrix.parameter.shape[1]))
        for rank in ranks
        for some, matrix in zip(rows, own, strict=True)
    ]  # all ranks' parts of its own
    to_owners = [sum(matrix.local_shape.numel() for matrix in some) for some in owned]
    to_parts = [sum(shape.numel() for shape in here[rank * len(own) : (rank + 1) * len(own)]) for rank in ranks]

    sent = torch.cat([matrix.make_momentum().flatten() for some in owned for matrix in some]).to(device)
    received = sent.new_empty(sum(to_parts))
    dist.all_to_all_single(received, sent, to_parts, to_owners, group=group)
    parts = _cut(received, here)
    updates = [
        torch.split(update_matrix(torch.cat(parts[place :: len(own)]), matrix.pieces, dtype), some)
        for place, (matrix, some) in enumerate(zip(own, rows, strict=True))
    ]
    if own:
        received = torch.cat([update[rank].flatten() for rank in ranks for update in updates])
    dist.all_to_all_single(sent, received, to_owners, to_parts, group=group)
    return _cut(sent, there)


def _cut(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Matrices of these shapes, one after the other in memory."""
    pieces = torch.split(flat, [shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
