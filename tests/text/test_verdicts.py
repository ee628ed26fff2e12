"""Verdicts of judge models, in the shapes that models give them; expected values are by hand."""

import pytest

from codeshell_hf.text.verdicts import read_score, read_verdict

VERDICTS = {
    "A": "a",
    "B.": "b",
    "b": "b",
    " tie\n": "tie",
    "**B**": "b",
    '"A"': "a",
    "(B)": "b",
    "[[A]]": "a",
    "Both work, but the second is shorter. [[B]]": "b",
    "My final verdict is: [[C]]": "tie",
    "As a judge, I prefer B": "b",
    "As a judge I would say that a clear winner is hard to name.": None,
    "A good answer would test its input. Verdict: B": "b",
    "Verdict: A": "a",
    "verdict: **B**": "b",
    "Final verdict: tie": "tie",
    "The better answer is A.": "a",
    "Answer B is better.": "b",
    "Answer A is worse than Answer B.": "b",
    "Response A is clearly superior": "a",
    "I do not prefer A.": None,
    "A is not better than B.": None,
    "I would choose answer B because A fails on empty lists.": "b",
    "Answer A is better at style. Overall, B is better.": "b",
    "A is better. B is better.": None,
    "A > B": "a",
    "B wins": "b",
    "It is a tie.": "tie",
    "Both are equally good.": "tie",
    '{"verdict": "B"}': "b",
    '```json\n{"reason": "A is longer", "better": "A"}\n```': "a",
    "<think>A is better. No, wait.</think>\nB": "b",
    "A is better, said the draft.</think>B": "b",
    "<think>A is bet": None,
    "A\n\nBecause it handles zero.": "a",
    "It handles zero.\n\nA": "a",
    "结论：B": "b",
    "我认为回答 A 更好。": "a",
    "选择B": "b",
    "两者不相上下": "tie",
    "Winner: Answer A": "a",
    "Answer: B": "b",
    "My pick: A": "a",
    "Verdict: [A]": "a",
    "Verdict: (B)": "b",
    "Verdict - B": "b",
    "Verdict: B (slightly)": "b",
    "<verdict>B</verdict>": "b",
    "Verdict: A/B": None,
    "Verdict: A or B": None,
    "Verdict: not A": None,
    "The second answer is better, since the first one loops.": "b",
    "第一个回答更好": "a",
    "Verdict: A\nVerdict: B": "b",
    "The choice is a matter of taste.": None,
    "": None,
    "I cannot say": None,
    "Be careful: plan B is a joke.": None,
    "Ab": None,
}

SCORES = {
    "7": 0.7,
    "Score: 7": 0.7,
    "Score: 7/10": 0.7,
    "**Score:** 8.5": 0.85,
    "I would rate this 4 out of 5.": 0.8,
    "[[9]]": 0.9,
    "It lists 3 cases, of which 2 fail.\nScore: 2": 0.2,
    '{"score": 6}': 0.6,
    "评分：4": 0.4,
    "The score is 10.": 1.0,
    "<think>Score: 9</think>Score: 1": 0.1,
    "Score: 12": None,
    "Score: -1": None,
    "Score: 3/0": None,
    "Very good.": None,
    "": None,
}


@pytest.mark.parametrize("reply", VERDICTS)
def test_a_verdict_is_read_as_a_person_reads_it(reply: str) -> None:
    assert read_verdict(reply) == VERDICTS[reply]


@pytest.mark.parametrize("reply", SCORES)
def test_a_score_is_a_share_of_the_best(reply: str) -> None:
    assert read_score(reply, 10) == SCORES[reply]
