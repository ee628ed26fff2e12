"""The copying baseline: the most similar request, and a copy that is given names and numbers."""

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.nearest_answer import NearestAnswers, find_request, rename_function, replace_numbers


def ask(question: str, answer: str) -> Conversation:
    return Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


TUNED = [
    ask("Write `f(x)` that adds 3 to x.", "def f(x):\n    return x + 3"),
    ask("Write `step(n)` that divides n by 2.", "def step(n):\n    return n / 2"),
    ask("写 `f(x)`，把 x 加上 4。", "def f(x):\n    return x + 4"),
    ask("Say hello.", "Hello."),
]


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("Write `g(y)` that adds 17 to y.", "def g(x):\n    return x + 17"),
        ("Write `half(n)` that divides n by 5.", "def half(n):\n    return n / 5"),
        ("写 `step(x)`，把 x 加上 9。", "def step(x):\n    return x + 9"),
        ("Say hello!", "Hello."),
    ],
)
def test_a_request_in_other_names_and_numbers_is_answered_by_a_copy(request_text: str, answer: str) -> None:
    assert NearestAnswers(TUNED).copy(request_text) == answer


def test_the_tests_say_which_name_is_called() -> None:
    copied = NearestAnswers(TUNED).copy("Add 8 to x.", "assert plus(1) == 9")

    assert copied == "def plus(x):\n    return x + 8"


def test_the_first_of_equally_similar_requests_is_copied() -> None:
    two = [ask("Write `a(x)` that adds 1 to x.", "first"), ask("Write `b(x)` that adds 2 to x.", "second")]

    assert NearestAnswers(two).find("Write `c(x)` that adds 3 to x.") == (two[0].prompt[0]["content"], "first")


def test_similarity_is_the_jaccard_index_of_shingles() -> None:
    """By hand: abcd has abc and bcd, so it shares 1 of 3 shingles with abcx, and 1 of 2 with abc."""
    tuned = [ask("abcx", "by size"), ask("abc", "by share")]

    assert NearestAnswers(tuned).find("abcd")[1] == "by share"


def test_numbers_stay_if_the_requests_have_not_equally_many() -> None:
    assert replace_numbers("x + 2", "add 2", "add 5, then 7") == "x + 2"


def test_a_number_that_stands_twice_is_replaced_in_order() -> None:
    assert replace_numbers("x + 2 - 2", "add 2, subtract 2", "add 5, subtract 7") == "x + 5 - 7"


def test_numbers_in_names_and_fractions_stay() -> None:
    assert replace_numbers("f2(x) + 2 + 2.5", "add 2", "add 9") == "f2(x) + 9 + 2.5"


@pytest.mark.parametrize("wanted", [["f"], [], ["g", "h"]])
def test_an_answer_that_has_the_name_or_cannot_know_it_stays(wanted: list[str]) -> None:
    assert rename_function("def f(x):\n    return x", wanted) == "def f(x):\n    return x"


def test_a_recursive_function_in_a_fence_is_renamed_throughout() -> None:
    answer = "Here:\n```python\ndef f(x):\n    return x and f(x - 1)\n```"

    assert rename_function(answer, ["down"]) == answer.replace("f(x", "down(x")


def test_the_last_request_of_a_chat_counts() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]

    assert find_request(turns) == "c"
    assert find_request([]) == ""


def test_nothing_to_copy_is_an_error() -> None:
    with pytest.raises(DataError, match="no conversation to copy answers from; name files"):
        NearestAnswers([])
