"""The fused projection's rows by rank, against lists of rows and against attention that is not split."""

from collections.abc import Callable

import pytest
import torch

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM
from codeshell_hf.train.tensor_parallel import order_fused_rows


@pytest.mark.parametrize(("heads", "groups", "tensors"), [(4, 2, 2), (8, 4, 2), (8, 8, 4), (6, 2, 1), (8, 4, 4)])
def test_a_rank_has_its_heads_queries_and_then_keys_and_values_of_their_groups(
    make_config: Callable[..., CodeShellConfig], heads: int, groups: int, tensors: int
) -> None:
    width = 2
    config = make_config(n_embd=heads * width, n_head=heads, num_query_groups=groups)
    by_hand = []
    for rank in range(tensors):
        mine = [head for head in range(heads) if head // (heads // tensors) == rank]
        read = sorted({head // (heads // groups) for head in mine})
        by_hand += [head * width + place for head in mine for place in range(width)]
        for first in (heads, heads + groups):  # of keys, of values
            by_hand += [(first + group) * width + place for group in read for place in range(width)]

    assert order_fused_rows(config, tensors).tolist() == by_hand


@pytest.mark.parametrize("groups", [2, 4])
def test_heads_that_are_computed_apart_add_up_to_the_whole_attention(
    tiny_model: Callable[..., CodeShellForCausalLM], groups: int
) -> None:
    """Each half has rows of the first matrix and columns of the second; only their sum sees all heads."""
    model = tiny_model(num_query_groups=groups).eval()
    attention, config = model.transformer.h[0].attn, model.config
    hidden, places = torch.randn(2, 7, config.n_embd), torch.arange(7)[None]
    positions = model.transformer.rotary_emb(hidden, places)
    expected = attention(hidden, positions, None)[0]
    order = order_fused_rows(config, 2)
    fused, projection = attention.c_attn, attention.c_proj
    weight, bias, columns = fused.weight[order], fused.bias[order], projection.weight
    attention.query_dim //= 2
    attention.kv_dim //= 2

    total = projection.bias.detach().clone()
    for rank in range(2):
        half = torch.nn.Linear(config.n_embd, len(order) // 2)
        half.weight, half.bias = (torch.nn.Parameter(part.chunk(2)[rank]) for part in (weight, bias))
        out = torch.nn.Linear(config.n_embd // 2, config.n_embd, bias=False)
        out.weight = torch.nn.Parameter(columns.chunk(2, dim=1)[rank])
        attention.c_attn, attention.c_proj = half, out
        total = total + attention(hidden, positions, None)[0]

    torch.testing.assert_close(total, expected)
