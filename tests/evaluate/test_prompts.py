"""Prompts and programs, against the texts that the protocols publish, written out by hand."""

import pytest

from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.prompts import (
    Prompt,
    program_alone,
    program_behind_prompt,
    program_filled_in,
    program_in_answer,
    program_mbpp,
    prompt_fixing,
    prompt_function,
    prompt_infilling,
    prompt_mbpp,
    prompt_mbpp_shots,
    prompt_request,
    prompt_stripped,
    prompt_tests,
    prompt_whole,
)

HEAD = '\nfrom math import pi\n\n\ndef area(r):\n    """Of a circle."""\n'
FUNCTION = Problem("0", "py", HEAD, None, "    return pi * r * r\n", "assert area(0) == 0", "area")
MIDDLE = Problem("1", "py", "a = 1\n", "\nc = 3\n", "b = 2", "assert b == 2")


def make_task(number: str, text: str, code: str, *tests: str) -> Problem:
    notes = {"text": text, "test_list": list(tests), "code": code}
    return Problem(number, "py", text, None, code, "\n".join(tests), "f", (), notes)


def test_a_prompt_is_stripped_or_left_as_it_is() -> None:
    assert prompt_stripped(FUNCTION, ()) == Prompt(HEAD[1:-1])
    assert prompt_whole(FUNCTION, ()) == Prompt(HEAD)
    assert prompt_request(FUNCTION, ()) == Prompt(HEAD, is_chat=True)


def test_a_middle_stands_between_a_prefix_and_a_suffix_even_an_empty_one() -> None:
    assert prompt_infilling(MIDDLE, ()) == Prompt("a = 1\n", "\nc = 3\n")
    assert prompt_infilling(FUNCTION, ()) == Prompt(HEAD, "")
    assert program_filled_in(MIDDLE, "b = 2") == ("a = 1\nb = 2\nc = 3\n", "assert b == 2")


def test_a_chat_asks_for_the_whole_function() -> None:
    assert prompt_function(FUNCTION, ()) == Prompt(
        "Complete this function and reply with all of it.\n"
        '```python\nfrom math import pi\n\n\ndef area(r):\n    """Of a circle."""\n```',
        is_chat=True,
    )


def test_mbpp_is_a_docstring_with_its_first_test() -> None:
    task = make_task("11", "Add one.", "def f(x): return x + 1", "assert f(1) == 2", "assert f(2) == 3")

    assert prompt_mbpp(task, ()).text == '"""\nAdd one.\nassert f(1) == 2\n"""\n'
    assert program_mbpp(task, "x") == ('"""\nAdd one.\nassert f(1) == 2\n"""\nx', "assert f(1) == 2\nassert f(2) == 3")


def test_worked_examples_have_their_code_and_the_task_has_none() -> None:
    """The text is that of Austin et al. 2021, figure 1."""
    shot = make_task("2", "Add one.", "def f(x): return x + 1", "assert f(1) == 2")
    task = make_task("11", "Add two.", "def g(x): return x + 2", "assert g(1) == 3", "assert g(2) == 4")

    assert prompt_mbpp_shots(task, [shot]).text == (
        "You are an expert Python programmer, and here is your task: Add one. Your code should pass these tests:\n\n"
        "assert f(1) == 2\n[BEGIN]\ndef f(x): return x + 1\n[DONE]\n\n"
        "You are an expert Python programmer, and here is your task: Add two. Your code should pass these tests:\n\n"
        "assert g(1) == 3\nassert g(2) == 4\n[BEGIN]\n"
    )


def test_a_fault_stands_before_the_beginning_of_the_right_function() -> None:
    faulty = Problem("0", "py", "def f():\n", None, "", "", "f", (), {"mutant": "\ndef f():\n    return 2\n"})

    assert prompt_fixing(faulty, ()).text == (
        "# This program has a bug:\ndef f():\n    return 2\n\n# This program is the same without the bug:\ndef f():"
    )


def test_a_test_begins_behind_the_right_function() -> None:
    assert prompt_tests(FUNCTION, ()).text == (
        f"{HEAD[1:]}    return pi * r * r\n\n\ndef test_area():\n    assert area("
    )


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (
            "```python\ndef area(r):\n    return 3 * r\n```\nDone.",
            "\nfrom math import pi\n\n\n\ndef area(r):\n    return 3 * r",
        ),
        ("```\n    return 3 * r\n```", f"{HEAD}    return 3 * r\n"),
    ],
)
def test_an_answer_of_a_chat_is_put_behind_what_it_leaves_out(answer: str, program: str) -> None:
    assert program_in_answer(FUNCTION, answer) == (program, "assert area(0) == 0")


def test_an_answer_without_a_name_to_look_for_is_its_code() -> None:
    nameless = Problem("0", "py", HEAD, None, "", "assert x")

    assert program_in_answer(nameless, "```python\nx = 1\n```") == ("x = 1", "assert x")
    assert program_alone(FUNCTION, "x") == ("x", "assert area(0) == 0")
    assert program_behind_prompt(FUNCTION, "\n    pass")[0] == f"{HEAD[1:-1]}\n    pass"
