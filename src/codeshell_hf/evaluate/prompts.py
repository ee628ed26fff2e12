"""How a problem becomes a prompt, and an answer a program."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..text.code import extract_code
from .problems import Problem


@dataclass(frozen=True)
class Prompt:
    """What a model is given.

    Args:
        text: What stands before; of a chat, the request.
        suffix: What stands behind, where a model fills in.
        is_chat: Whether the chat template is put around it.
        max_tokens: Text to fill in is cut on both sides to fit; nothing else is ever cut.
    """

    text: str
    suffix: str | None = None
    is_chat: bool = False
    max_tokens: int | None = None


def pose_stripped(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """The prompt without white space at its ends.

    Args:
        problem: The problem.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(problem.prompt.strip())


def pose_whole(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """The prompt as it is.

    Args:
        problem: The problem.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(problem.prompt)


def pose_infilling(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """What stands before and behind.

    Args:
        problem: With a suffix.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(problem.prompt, problem.suffix or "")


def pose_request(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """A turn of a chat.

    Args:
        problem: A request.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(problem.prompt, is_chat=True)


def pose_function(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """A turn of a chat that asks for the rest of a function.

    Args:
        problem: With the function's head.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(
        f"Complete this function and reply with all of it.\n```python\n{problem.prompt.strip()}\n```", is_chat=True
    )


def pose_mbpp(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """The task and its first test as a docstring, as InCoder's authors posed it.

    Args:
        problem: Of MBPP.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(f'"""\n{problem.notes["text"]}\n{problem.notes["test_list"][0]}\n"""\n')


def pose_mbpp_shots(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """The task with all of its tests, behind worked examples.

    Args:
        problem: Of MBPP.
        shown: Worked out.

    Returns:
        The prompt.

    Source:
        Austin et al. 2021, arXiv:2108.07732, section 3.
    """
    parts = []
    for one in (*shown, problem):
        tests = "\n".join(one.notes["test_list"])
        answer = "" if one is problem else f"{one.notes['code']}\n[DONE]\n\n"
        task = f"You are an expert Python programmer, and here is your task: {one.notes['text']}"
        parts.append(f"{task} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n{answer}")
    return Prompt("".join(parts))


def pose_fixing(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """A function with a fault, and the beginning of the right one.

    Args:
        problem: With a `mutant` in its notes.
        shown: None.

    Returns:
        The prompt.
    """
    return Prompt(
        f"# This program has a bug:\n{problem.notes['mutant'].strip()}\n\n"
        f"# This program is the same without the bug:\n{problem.prompt.strip()}"
    )


def pose_tests(problem: Problem, shown: Sequence[Problem]) -> Prompt:
    """A right function, and the beginning of its test.

    Args:
        problem: With a reference.
        shown: None.

    Returns:
        The prompt.
    """
    program = f"{problem.prompt}{problem.reference}".strip()
    return Prompt(f"{program}\n\n\ndef test_{problem.name}():\n    assert {problem.name}(")


def program_behind_prompt(problem: Problem, text: str) -> tuple[str, str]:
    """The stripped prompt, the answer and the tests.

    Args:
        problem: The problem.
        text: The answer, cut.

    Returns:
        The source and its tests.
    """
    return problem.prompt.strip() + text, problem.tests


def program_alone(problem: Problem, text: str) -> tuple[str, str]:
    """The answer and the tests.

    Args:
        problem: The problem.
        text: The answer, cut.

    Returns:
        The source and its tests.
    """
    return text, problem.tests


def program_in_answer(problem: Problem, text: str) -> tuple[str, str]:
    """The code in an answer of a chat, behind the imports of the prompt.

    Args:
        problem: The problem.
        text: The answer.

    Returns:
        The source and its tests.
    """
    code = extract_code(text)
    if not problem.name:
        return code, problem.tests
    head = problem.prompt.partition(f"def {problem.name}")[0]
    return (f"{head}\n{code}" if f"def {problem.name}" in code else f"{problem.prompt}{code}"), problem.tests


def program_mbpp(problem: Problem, text: str) -> tuple[str, str]:
    """The docstring, the answer and the tests.

    Args:
        problem: Of MBPP.
        text: The answer, cut.

    Returns:
        The source and its tests.
    """
    return pose_mbpp(problem, ()).text + text, problem.tests


def program_filled_in(problem: Problem, text: str) -> tuple[str, str]:
    """What stands before, the answer, what stands behind, and the tests.

    Args:
        problem: With a suffix.
        text: The answer, cut.

    Returns:
        The source and its tests.
    """
    return f"{problem.prompt}{text}{problem.suffix}", problem.tests
