"""pass@k, exact match and BLEU."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from codeshell_hf.evaluate.metrics import code_bleu_interval, code_bleu_like, edit_similarity, is_exact, pass_at_k


def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_one() -> None:
    for samples, correct, k in itertools.product(range(1, 9), range(9), range(1, 9)):
        if correct <= samples and k <= samples:
            expected = 1 - Fraction(comb(samples - correct, k), comb(samples, k))
            assert pass_at_k(samples, correct, k) == pytest.approx(float(expected), abs=1e-12)
    for bad in ((3, 4, 1), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(ValueError, match="give at least k samples"):
            pass_at_k(*bad)


def test_exact_match_forgives_white_space_at_the_ends_alone() -> None:
    assert is_exact("  x = 1\n", "x = 1")
    assert not is_exact("x  = 1", "x = 1")
    assert edit_similarity("abcd", "abcd") == 1.0
    assert edit_similarity("", "abcd") == 0.0


def test_bleu_is_sacrebleus_over_words_and_signs() -> None:
    same, signature = code_bleu_like(["return f(x) + 1"], ["return f ( x )+1"])
    part, _ = code_bleu_like(["return f(x) + 1"], ["return g(y) - 1"])

    assert same == pytest.approx(1.0)
    assert 0 < part < 0.5
    assert "tok:none|smooth:exp" in signature


def test_the_interval_of_bleu_is_that_of_scoring_every_resample_anew() -> None:
    written = ["return f(x) + 1", "", "return x", "y = g(z)", "for i in range(3): print(i)", "a"]
    references = ["return f(x) + 1", "pass", "return x + 1", "y = g(y) - 1", "for i in range(9): print(i)", "a"]
    resampled = [
        code_bleu_like([written[index] for index in drawn], [references[index] for index in drawn])[0]
        for drawn in np.random.default_rng(0).integers(6, size=(200, 6))
    ]

    low, high = code_bleu_interval(written, references, resamples=200)

    assert (low, high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=1e-12)
    assert low < code_bleu_like(written, references)[0] < high
