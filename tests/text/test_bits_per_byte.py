"""Bits per byte against a token-by-token count."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.text.bits_per_byte import score_documents


def test_bits_per_byte_equal_a_token_by_token_count(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    model = tiny_model(n_positions=64)
    documents = [
        ("python", torch.randint(0, 320, (length,)).numpy().astype(np.uint16), 3 * length) for length in (50, 1, 9, 23)
    ]

    scores = score_documents(model, documents, window_tokens=8, vocab_size=320)

    bits = 0.0
    for _, ids, _ in documents:
        bits += math.log2(320)
        for place in range(1, len(ids)):
            first = (place - 1) // 7 * 7  # windows of 8 that share one token
            with torch.no_grad():
                logits = model(torch.from_numpy(ids[first:place].astype(np.int64))[None]).logits[0, -1]
            bits -= torch.log_softmax(logits.double(), -1)[int(ids[place])].item() / math.log(2)
    assert scores["all"].bytes == scores["python"].bytes == 3 * 83
    assert scores["all"].bits == pytest.approx(bits, rel=1e-4)
    low, high = scores["all"].interval
    assert low <= scores["all"].bits_per_byte <= high
    assert scores["all"].bits_per_byte == pytest.approx(bits / 249, rel=1e-4)
