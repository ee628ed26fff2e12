"""Choosing a token, against plain arithmetic."""

import math
from collections import Counter

import pytest
import torch

from codeshell_hf.serve.sampling import RowSampling, choose_token

LOGITS = [2.0, 1.0, 0.5, -1.0, -3.0]


def draw(sampling: RowSampling, logits: list[float] = LOGITS, draws: int = 2000, **rows: list[int]) -> Counter[int]:
    given: dict[str, list[int]] = {"prompt": [], "written": []} | rows
    return Counter(
        choose_token(torch.tensor(logits), sampling, uniform=(number + 0.5) / draws, **given).id
        for number in range(draws)
    )


def share(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (RowSampling(), share([math.exp(x) for x in LOGITS])),
        (RowSampling(temperature=0.5), share([math.exp(2 * x) for x in LOGITS])),
        (RowSampling(top_k=2), share([math.exp(2), math.exp(1), 0, 0, 0])),
        # The likeliest has 0.61 of the mass, the second 0.22.
        (RowSampling(top_p=0.6), [1, 0, 0, 0, 0]),
        (RowSampling(top_p=0.7), share([math.exp(2), math.exp(1), 0, 0, 0])),
        (RowSampling(top_p=0), [1, 0, 0, 0, 0]),
        (RowSampling(min_p=0.2), share([math.exp(2), math.exp(1), math.exp(0.5), 0, 0])),
        (RowSampling(temperature=0), [1, 0, 0, 0, 0]),
        (RowSampling(temperature=1e-9), [1, 0, 0, 0, 0]),
        (RowSampling(logit_bias={0: -100, 4: 3}), share([0, math.exp(1), math.exp(0.5), math.exp(-1), 1])),
    ],
)
def test_shares_of_draws_are_those_by_hand(sampling: RowSampling, expected: list[float]) -> None:
    """Over an even grid of numbers, so that no chance is in it."""
    counts = draw(sampling)

    assert [counts[token] / 2000 for token in range(5)] == pytest.approx(expected, abs=0.002)


def test_penalties_are_those_of_their_definitions() -> None:
    greedy = {"temperature": 0.0}
    # 2.0 / 3 falls below 1.0, and -1.0 * 3 stays below all.
    assert list(draw(RowSampling(repetition_penalty=3, **greedy), prompt=[0, 3])) == [1]
    assert list(draw(RowSampling(repetition_penalty=1.5, **greedy), prompt=[0])) == [0]
    # A negative one grows by it: -1 becomes -3.
    assert list(draw(RowSampling(repetition_penalty=3, **greedy), [-1.0, -2.0], prompt=[0])) == [1]
    # Presence and frequency count the output and not the prompt.
    assert list(draw(RowSampling(presence_penalty=1.2, **greedy), prompt=[0])) == [0]
    assert list(draw(RowSampling(presence_penalty=1.2, **greedy), written=[0])) == [1]
    assert list(draw(RowSampling(frequency_penalty=0.4, **greedy), written=[0, 0])) == [0]
    assert list(draw(RowSampling(frequency_penalty=0.4, **greedy), written=[0, 0, 0])) == [1]


def test_log_probabilities_are_the_models_own() -> None:
    chosen = choose_token(
        torch.tensor(LOGITS), RowSampling(temperature=0, alternatives=2), prompt=[], written=[], uniform=0
    )

    total = math.log(sum(math.exp(x) for x in LOGITS))
    assert chosen.logprob == pytest.approx(2 - total)
    assert [token for token, _ in chosen.alternatives] == [0, 1]
    assert chosen.alternatives[1][1] == pytest.approx(1 - total)


def test_a_number_close_to_one_draws_nothing_that_was_left_out() -> None:
    chosen = choose_token(
        torch.tensor(LOGITS), RowSampling(top_p=0.7), prompt=[], written=[], uniform=math.nextafter(1, 0)
    )

    assert chosen.id == 1
