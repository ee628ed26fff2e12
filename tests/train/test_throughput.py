"""Operations of a token, counted by hand."""

from collections.abc import Callable

import torch

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM
from codeshell_hf.train.throughput import cost_token, find_peak_tflops


def test_cost_of_a_token_equals_a_count_by_hand(make_config: Callable[..., CodeShellConfig]) -> None:
    config = make_config(n_embd=32, n_layer=2, n_head=4, num_query_groups=2, n_inner=64, vocab_size=320)
    parameters = sum(p.numel() for p in CodeShellForCausalLM(config).parameters())

    cost = cost_token(config, 100)

    # 2 layers, 3 passes; each query sees 50 of 100 keys on average, for scores and for sums, 2 operations each.
    assert cost.causal_attention == 2 * 3 * (2 * 2 * 50 * 32)
    assert cost.matrices == 6 * parameters
    assert cost.square - cost.causal == cost.causal_attention


def test_a_processor_has_no_known_peak() -> None:
    assert find_peak_tflops(torch.device("cpu")) is None
