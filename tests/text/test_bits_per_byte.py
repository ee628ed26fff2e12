"""Bits per byte, against a loop over prefixes."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.errors import Interrupted
from codeshell_hf.text import bits_per_byte
from codeshell_hf.text.bits_per_byte import BitCount, compute_losses, score_documents
from codeshell_hf.train.loss import TrainedModel

VOCABULARY = 16


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Recent(nn.Module):
    """Predicts from the sum of the last two tokens, so that what a window lacks shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(2 * VOCABULARY, VOCABULARY))

    def forward(self, input_ids: Tensor, *, use_cache: bool) -> Output:
        previous = nn.functional.pad(input_ids, (1, 0))[:, :-1]
        return Output(self.table[input_ids + previous])


def test_a_document_costs_what_a_loop_over_its_tokens_says() -> None:
    model = Recent()
    rng = np.random.default_rng(0)
    documents = [
        ("python", rng.integers(VOCABULARY, size=size).astype(np.uint16), 10 * (size + 1)) for size in (9, 1, 0, 4)
    ]
    documents += [("c", rng.integers(VOCABULARY, size=23).astype(np.uint16), 50)]
    window = 5

    scores = score_documents(model, documents, window_tokens=window, vocab_size=VOCABULARY)

    def price(ids: list[int]) -> float:
        bits = math.log2(VOCABULARY) if ids else 0.0
        for place in range(1, len(ids)):
            begin = (place - 1) // (window - 1) * (window - 1)  # of the window in which the token is predicted
            seen = torch.tensor([ids[begin:place]])
            bits -= model(seen, use_cache=False).logits[0, -1].log_softmax(-1)[ids[place]].item() / math.log(2)
        return bits

    expected = [price(ids.tolist()) for _, ids, _ in documents]
    assert scores["python"].document_bits == pytest.approx(expected[:4], rel=1e-5)
    assert scores["c"].document_bits == pytest.approx(expected[4:], rel=1e-5)
    assert scores["all"].bits == pytest.approx(sum(expected), rel=1e-5)
    assert scores["all"].bits_per_byte == pytest.approx(sum(expected) / sum(size for *_, size in documents), rel=1e-5)


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary_for_each_token() -> None:
    model = Recent()
    nn.init.zeros_(model.table)
    ids = np.arange(12, dtype=np.uint16)

    scores = score_documents(model, [("c", ids, 6)], window_tokens=5, vocab_size=VOCABULARY)

    assert scores["c"].bits_per_byte == pytest.approx(12 * 4 / 6)


class Thread:
    """One of several ranks, as threads that wait for each other in every sum."""

    def __init__(self, rank: int, barrier: Barrier, given: dict[int, tuple[float, ...]]) -> None:
        self.rank, self.count, self._barrier, self._given = rank, barrier.parties, barrier, given

    def all_reduce_sum(self, *values: float) -> list[float]:
        self._given[self.rank] = values
        self._barrier.wait(20)
        total = [sum(column) for column in zip(*self._given.values(), strict=True)]
        self._barrier.wait(20)
        return total


def share(ranks: int, work: Callable[[Thread], Any]) -> list[Any]:
    """What each rank returns or raises."""

    def run(rank: Thread) -> Any:
        try:
            return work(rank)
        except Interrupted as error:
            return error

    barrier, given = Barrier(ranks), dict[int, tuple[float, ...]]()
    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(run, [Thread(rank, barrier, given) for rank in range(ranks)]))


@pytest.mark.parametrize("documents_count", [1, 3, 30])
def test_ranks_share_documents_and_get_the_result_of_one(documents_count: int) -> None:
    model, rng, calls = Recent(), np.random.default_rng(0), []
    sizes = rng.integers(0, 30, size=documents_count)
    documents = [("c", rng.integers(VOCABULARY, size=size).astype(np.uint16), int(size) + 1) for size in sizes]
    alone = score_documents(model, documents, window_tokens=5, vocab_size=VOCABULARY)

    def score(rank: Thread) -> object:
        def measure(model: nn.Module, ids: Tensor) -> Tensor:
            calls.append(rank.rank)
            return compute_losses(model, ids)

        return score_documents(model, documents, window_tokens=5, vocab_size=VOCABULARY, measure=measure, ranks=rank)

    for shared in share(3, score):
        assert shared["all"].document_bits == pytest.approx(alone["all"].document_bits, rel=1e-12)
    # Sharded weights are gathered in each forward pass: all ranks have the same number of them.
    assert calls.count(0) == calls.count(1) == calls.count(2)
    windows = sum(len(range(0, max(int(size) - 1, 0), 4)) for size in sizes)
    assert calls.count(0) == math.ceil(math.ceil(windows / 8) / 3)


def test_a_signal_to_one_rank_stops_all() -> None:
    ids = np.zeros(200, dtype=np.uint16)

    ended = share(
        2,
        lambda rank: score_documents(
            Recent(), [("c", ids, 9)], window_tokens=5, vocab_size=VOCABULARY, ranks=rank,
            is_stopping=lambda: rank.rank == 1,
        ),
    )  # fmt: skip

    assert [type(one) for one in ended] == [Interrupted, Interrupted]


def test_logits_in_memory_are_bounded_by_bytes(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., CodeShellForCausalLM]
) -> None:
    model = tiny_model(n_positions=64)
    ids = torch.randint(0, 320, (3, 40))
    with torch.no_grad():
        plain = nn.functional.cross_entropy(model(ids).logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda head, given, logits: seen.append(12 * logits.numel()))
    monkeypatch.setattr(bits_per_byte, "MAX_LOGIT_BYTES", 100_000)  # 26 positions

    losses = compute_losses(model, ids)

    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-6)
    assert max(seen) <= 100_000
    assert len(seen) == math.ceil(3 * 39 / 26)
    trained = TrainedModel(model)(input_ids=ids, labels=ids, reduction="none")
    torch.testing.assert_close(trained, plain, rtol=1e-5, atol=1e-6)
    assert max(seen) <= 100_000


def test_nothing_has_no_bits_per_byte() -> None:
    assert BitCount().bits_per_byte == math.inf


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
