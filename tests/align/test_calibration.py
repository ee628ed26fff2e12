"""Accuracy and calibration of constructed scorers."""

import math

import pytest
import torch

from codeshell_hf.align.calibration import calibrate, compute_margins, expected_calibration_error, measure_accuracy


def test_a_margin_is_the_chosen_score_minus_the_rejected_one_of_the_same_pair() -> None:
    """Batches of two pairs, the chosen answers first; the third pair's batch is filled up and cut."""
    chosen, rejected = [3.0, 1.0, 5.0, 3.0], [1.0, 2.0, 0.5, 1.0]
    scores = torch.tensor([*chosen[:2], *rejected[:2], *chosen[2:], *rejected[2:]])[:, None]

    assert compute_margins(scores, 2, 3) == [2.0, -1.0, 4.5]


def test_a_scorer_that_is_right_about_three_pairs_of_four_has_that_accuracy() -> None:
    assert measure_accuracy([0.5, 3.0, -1.0, 0.1]) == 0.75
    assert measure_accuracy([-0.5, -3.0]) == 0.0
    assert measure_accuracy([0.0] * 5) == 0.5, "every pair ties before the first step"


def test_pairs_of_equal_margin_share_a_bin() -> None:
    bins = calibrate([3.0] * 9 + [-3.0])

    assert bins == [{"sure": pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4), "right": 0.9, "pairs": 10}]


def test_a_scorer_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    """Margins of ln 4 are 80 % sure: right 8 times of 10 is calibrated, right 3 times of 10 is off by a half."""
    margin = math.log(4)

    assert expected_calibration_error(calibrate([margin] * 8 + [-margin] * 2)) == pytest.approx(0.0, abs=1e-9)
    assert expected_calibration_error(calibrate([margin] * 3 + [-margin] * 7)) == pytest.approx(0.5, abs=1e-9)


def test_calibration_error_weighs_bins_by_their_pairs() -> None:
    bins = [{"sure": 0.9, "right": 0.5, "pairs": 1}, {"sure": 0.6, "right": 0.7, "pairs": 3}]

    assert expected_calibration_error(bins) == pytest.approx((0.4 * 1 + 0.1 * 3) / 4)
