"""Exact answers: what counts as the final one, and which are the same; all by hand."""

import pytest

from codeshell_hf.align.exact_answers import ExactReward, is_same_answer

REFERENCE = "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 in all.\n#### 72"

ANSWERS = {
    "#### 72": True,
    "48 + 24 = 72": True,
    "The answer is 72.": True,
    "The answer is: $72.00": True,
    "so \\boxed{72}": True,
    "答案是 72。": True,
    "In all **72** clips.": True,
    "72": True,
    "<think>71, no: 72</think>72": True,
    "#### 71": False,
    "The answer is 72. No, the answer is 71.": False,
    "72 or 71": False,
    "#### 72 or 73": False,
    "<think>#### 72</think>I do not know": False,
    "<think>#### 72": False,
    "seventy-two": False,
    "": False,
}

PAIRS = {
    ("#### 1,250", "#### 1250"): True,
    ("\\boxed{\\frac{1}{2}}", "#### 0.5"): True,
    ("The answer is 1/2", "0.5"): True,
    ("#### -3", "#### 3"): False,
    ("50%", "#### 50"): True,
    ("The answer is yes.", "The answer is Yes"): True,
    ("The answer is no.", "The answer is Yes"): False,
    ("The answer is right only for x > 2. That gives 18", "#### 18"): False,  # what was said wins
    ("1/0", "#### 1"): False,
}


@pytest.mark.parametrize("text", ANSWERS)
def test_the_final_number_decides(text: str) -> None:
    assert is_same_answer(text, REFERENCE) == ANSWERS[text]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_same_number_may_be_written_otherwise(pair: tuple[str, str]) -> None:
    assert is_same_answer(*pair) == PAIRS[pair]


def test_an_answer_that_is_cut_off_earns_nothing_and_without_a_reference_there_is_no_reward() -> None:
    completions = [[{"role": "assistant", "content": text}] for text in ("#### 72|<end>|", "#### 72", "72|<end>|")]

    assert ExactReward()(completions=completions, reference=[REFERENCE, REFERENCE, None]) == [1.0, 0.0, None]
