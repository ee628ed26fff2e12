"""Pairs out of answers, by tests and by a judge."""

import random
from collections.abc import Sequence

from codeshell_hf.align.pairing import pair_by_judge, pair_by_tests, pair_by_verdict
from codeshell_hf.align.preferences import Pair
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.decode import Answer
from codeshell_hf.text.judge import Judge


def make_conversation(question: str) -> Conversation:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": "-"})
    return Conversation(turns, tests="assert x")


def make_answers(*texts: str, is_finished: bool = True) -> list[Answer]:
    return [Answer(text, is_finished) for text in texts]


def test_pairs_by_verdict_join_good_with_bad_and_each_bad_one_once() -> None:
    prompt = [{"role": "user", "content": "q"}]
    answers = ["a", "b", " a ", "c", "d", ""]
    verdicts = [True, False, True, False, False, False]

    pairs = pair_by_verdict(prompt, answers, verdicts, max_pairs=9, source="tests", rng=random.Random(0))

    assert {pair.chosen for pair in pairs} == {"a"}
    assert sorted(pair.rejected for pair in pairs) == ["b", "c", "d"]
    assert len(pair_by_verdict(prompt, answers, verdicts, max_pairs=2, source="tests", rng=random.Random(0))) == 2
    for same in (True, False):
        assert pair_by_verdict(prompt, ["a", "b"], [same] * 2, max_pairs=9, source="t", rng=random.Random(0)) == []


def test_answers_are_paired_by_the_verdicts_on_their_own_prompt() -> None:
    """Prompts with both kinds make pairs; those with one kind alone are counted; unfinished answers are neither."""
    answered = [
        (make_conversation("both"), make_answers("good", "bad")),
        (make_conversation("all good"), make_answers("good", "fine")),
        (make_conversation("all bad"), make_answers("bad", "worse")),
        (make_conversation("cut"), [*make_answers("good"), *make_answers("bad", is_finished=False)]),
    ]
    passes = [True, False, True, True, False, False, True, False]

    made, passed = pair_by_tests(answered, passes, max_pairs=4, seed=0)

    assert made.pairs == [Pair(({"role": "user", "content": "both"},), "good", "bad", "tests", "assert x")]
    assert made.dropped == {"prompts had good answers alone": 2, "prompts had no good answer": 1}
    assert passed == 4


class FirstIsWorse(Judge):
    """Prefers the second answer, and cannot decide about a prompt that says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def compare(self, prompt: Sequence[dict[str, str]], first: str, second: str) -> int | None:
        self.asked.append((first, second))
        return None if prompt[0]["content"] == "undecided" else 1


def test_a_judge_compares_two_different_finished_answers() -> None:
    judge = FirstIsWorse()
    answered = [
        (make_conversation("q"), [*make_answers("cut", is_finished=False), *make_answers("a", "a", "", "b", "c")]),
        (make_conversation("undecided"), make_answers("a", "b")),
        (make_conversation("same"), make_answers("a", "a")),
    ]

    made = pair_by_judge(answered, judge)

    assert judge.asked == [("a", "b"), ("a", "b")]
    assert made.pairs == [Pair(({"role": "user", "content": "q"},), "b", "a", "judge")]
    assert made.dropped == {
        "prompts left the judge undecided": 1,
        "prompts had fewer than two different answers": 1,
    }
