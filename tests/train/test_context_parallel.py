"""Attention to gathered keys, against scores of each query and key by itself."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from codeshell_hf.train.context_parallel import GatheredKeys, attend_context, attend_pieces
from codeshell_hf.train.row_slices import RowSlicer
from recipes.with_accelerate import join_ranks
from tests.train.test_row_slices import draw_positions

H, G, W = 4, 2, 8


def attend_by_hand(query: Tensor, key: Tensor, value: Tensor, positions: np.ndarray, window: int | None) -> Tensor:
    """Shapes (B, heads, T, W); a key is seen if no document begins behind it, up to the query."""
    output = torch.zeros_like(query)
    rows, heads, row_tokens, width = query.shape
    for row in range(rows):
        for place in range(row_tokens):
            first = place
            while first > 0 and positions[row, first] == positions[row, first - 1] + 1:
                first -= 1
            if window is not None:
                first = max(first, place - window + 1)
            for head in range(heads):
                group = head // (heads // key.shape[1])
                keys, values = key[row, group, first : place + 1], value[row, group, first : place + 1]
                weights = (keys @ query[row, head, place] / math.sqrt(width)).softmax(0)
                output[row, head, place] = weights @ values
    return output.transpose(1, 2)


def gather_keys(slicer: RowSlicer, positions: np.ndarray) -> GatheredKeys:
    lengths = slicer.find_keys(positions)
    given = (slicer.find_order(positions.shape[1]), lengths.queries, lengths.keys, lengths.places)
    order, queries, keys, places = map(torch.from_numpy, given)
    return GatheredKeys(dist.group.WORLD, order, queries, keys, places, positions.shape[1])


def draw(tokens: int = 32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, heads, tokens, W, generator=generator) for heads in (H, G, G)]


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("contexts", [2, 4])
def test_the_queries_of_all_ranks_are_attention_over_whole_rows(contexts: int, window: int | None) -> None:
    positions = draw_positions(2, 32)
    query, key, value = draw()
    expected = attend_by_hand(query, key, value, positions, window)

    found = torch.zeros(2, 32, H, W)
    for rank in range(contexts):
        slicer = RowSlicer(rank, contexts)
        lengths = gather_keys(slicer, positions)
        places = slicer.find_places(32)
        keys, values = (whole.transpose(1, 2).flatten(0, 1)[lengths.places] for whole in (key, value))
        mine = query[:, :, places].transpose(1, 2).flatten(0, 1)
        output = attend_pieces(mine, keys, values, lengths, window, W**-0.5)
        found[:, places] = output.view(2, len(places), H, W)

    torch.testing.assert_close(found, expected)


def test_on_one_rank_the_gathered_keys_are_its_own_and_gradients_reach_them() -> None:
    positions = draw_positions(2, 32)
    query, key, value = given = [part.requires_grad_() for part in draw()]
    expected = attend_by_hand(query, key, value, positions, None)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    by_hand = torch.autograd.grad((expected * weights).sum(), given)

    with join_ranks():
        lengths = gather_keys(RowSlicer(0, 1), positions)
        found, _ = attend_context(nn.Module(), query, key, value, None, scaling=W**-0.5, gathered_keys=lengths)
        gradients = torch.autograd.grad((found * weights).sum(), given)

    torch.testing.assert_close(found, expected)
    for gradient, wanted in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_padding_and_dropout_are_refused() -> None:
    query, key, value = draw()
    with join_ranks():
        lengths = gather_keys(RowSlicer(0, 1), draw_positions(2, 32))
        for mask, dropout in ((torch.ones(1), 0.0), (None, 0.1)):
            with pytest.raises(ValueError, match="takes neither padding nor dropout"):
                attend_context(
                    nn.Module(), query, key, value, mask, scaling=1.0, gathered_keys=lengths, dropout=dropout
                )
