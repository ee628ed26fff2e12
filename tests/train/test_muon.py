"""Muon: torch's own as the peer, pieces of fused projections, and matrices that ranks share."""

from typing import Any

import numpy as np
import pytest
import torch

from codeshell_hf.presets import make_config
from codeshell_hf.train import muon as muon_module
from codeshell_hf.train.muon import Muon, assign_owners, orthogonalize
from codeshell_hf.train.row_shards import count_local_rows
from recipes.with_accelerate import join_ranks
from tests.train.mesh_program import SIZES
from tests.train.mesh_program import train as train_here
from tests.train.test_mesh_engine import train

slow = pytest.mark.slow
MUON = {"optimizer": {"name": "muon", "matrix_learning_rate": 2e-2}}


def make_pair(shapes: list[tuple[int, int]]) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    return ours, [torch.nn.Parameter(one.detach().clone()) for one in ours]


def test_muon_in_bfloat16_is_torchs_own() -> None:
    """Bit for bit, over steps: momentum, decay and scale as well."""
    ours, theirs = make_pair([(48, 16), (16, 48), (32, 32)])
    muon = Muon(ours, lr=0.02, weight_decay=0.1, dtype=torch.bfloat16)
    peer = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)

    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        muon.step()
        peer.step()

    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert muon.state_dict()["state"].keys() == peer.state_dict()["state"].keys()


def test_pieces_of_a_fused_matrix_are_updated_as_matrices_of_their_own() -> None:
    """The peer, torch's Muon, has each piece as a parameter; one is tall, and so scaled by itself."""
    (whole,), _ = make_pair([(96, 32)])
    rows = (64, 16, 16)
    theirs = [torch.nn.Parameter(piece.detach().clone()) for piece in whole.split(list(rows))]
    muon = Muon([whole], lr=0.02, weight_decay=0.1, dtype=torch.bfloat16, pieces={whole: rows})
    peer = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)

    for _ in range(3):
        whole.grad = torch.randn_like(whole)
        for one, gradient in zip(theirs, whole.grad.split(list(rows)), strict=True):
            one.grad = gradient.clone()
        muon.step()
        peer.step()

    assert torch.equal(whole, torch.cat([one.detach() for one in theirs]))


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32)])
def test_iterations_in_float32_keep_directions_and_level_lengths(shape: tuple[int, int]) -> None:
    """Against the singular value decomposition: U and V stay, singular values come near to 1."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)

    found = orthogonalize(matrix, torch.float32)

    turned = left.T @ found @ right.T
    lengths = turned.diagonal()
    assert found.dtype == torch.float32
    assert ((lengths > 0.5) & (lengths < 1.3)).all()
    assert (turned - torch.diag(lengths)).abs().max() < 1e-4


def test_owners_have_equal_work_and_bounded_memory() -> None:
    blocks = [(7, 7), (4, 4), (16, 16), (16, 16)] * 10  # cost and numbers

    (together,) = assign_owners(blocks, 4, held_numbers=1000)
    rounds = assign_owners(blocks, 4, held_numbers=40)

    loads = [sum(blocks[place][0] for place in places) for places in together]
    assert max(loads) - min(loads) <= 4
    assert sorted(place for places in together for place in places) == list(range(40))
    assert sorted(place for owners in rounds for places in owners for place in places) == list(range(40))
    numbers = [sum(blocks[place][1] for places in owners for place in places) for owners in rounds]
    assert max(numbers) <= 4 * 40
    assert len(rounds) == 3  # of 430 numbers
    assert len(assign_owners(blocks, 4, held_numbers=1)) == 40


@pytest.mark.parametrize(("rows", "ranks"), [(64, 3), (5, 4), (3, 8), (1, 2)])
def test_rows_of_the_ranks_are_those_of_torchs_chunks(rows: int, ranks: int) -> None:
    chunks = [len(chunk) for chunk in torch.arange(rows).chunk(ranks)]

    assert count_local_rows(rows, ranks) == chunks + [0] * (ranks - len(chunks))


def test_momenta_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in the iterations' dtype, which would take the memory of half a model if they were made at once."""
    ours, _ = make_pair([(48, 16)] * 4)
    muon = Muon(ours, lr=0.02, weight_decay=0.1, dtype=torch.bfloat16)
    order: list[str] = []
    make, update = Muon._add_to_momentum, muon_module.update_matrix

    def make_momentum(*given: Any) -> torch.Tensor:
        order.append("momentum")
        return make(*given)

    def update_matrix(*given: Any) -> torch.Tensor:
        order.append("update")
        return update(*given)

    monkeypatch.setattr(Muon, "_add_to_momentum", make_momentum)
    monkeypatch.setattr(muon_module, "update_matrix", update_matrix)
    for one in ours:
        one.grad = torch.randn_like(one)
    muon.step()

    assert order == ["momentum", "update"] * 4


def make_runs(*kinds: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"sharding": sharding, "steps": [0, 4]} | MUON for sharding in kinds]


@slow
@pytest.mark.parametrize(
    ("ranks", "runs"),
    [
        (2, make_runs({"kind": "fsdp2"}, {})),
        (4, make_runs({"kind": "fsdp2"}, {"kind": "fsdp2", "replicas": 2})),  # of four, one has rows of two pieces
        (2, [run | {"held_numbers": 2048} for run in make_runs({"kind": "fsdp2"})]),  # 2 of 4 x 1,024 to 2,048
    ],
    ids=["two, sharded and not", "four, and two replicas", "two, in rounds"],
)
def test_ranks_take_the_steps_of_one_with_two_collectives_a_round_beside_adamws(
    ranks: int, runs: list[dict[str, Any]]
) -> None:
    """Losses and norms over four steps; products of 8 sharded matrices had 109 collectives a step."""
    config = {"num_query_groups": 1}
    with join_ranks() as alone:
        expected = train_here(alone, make_config("nano", **SIZES | config), *make_runs({}))
    *muons, adamw = train(ranks, *runs, {"sharding": {"kind": "fsdp2"}, "steps": [0, 1]}, **config)

    for run, muon in zip(runs, muons, strict=True):
        np.testing.assert_allclose(muon["steps"], expected["steps"], rtol=1e-5, err_msg=muon["name"])
        exchanges = [name for name in muon["collectives"] if "alltoall" in name]
        rounds = 4 if "held_numbers" in run else 1
        assert len(exchanges) == (2 * rounds if run["sharding"] else 0)
        if run == runs[0]:
            assert len(muon["collectives"]) - len(adamw["collectives"]) == 2 * rounds
