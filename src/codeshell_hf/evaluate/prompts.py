"""Turns problems into prompts, and answers into programs, for the profiles.

Results record the names of these functions as part of the profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..text.code import extract_code, find_body, list_wanted
from .problems import Problem


@dataclass(frozen=True)
class Prompt:
    """A prompt before it is encoded.

    Args:
        text: The prefix, or the request of a chat.
        suffix: For infilling.
        is_chat: Whether the chat template is applied.
        max_tokens: Infilling prompts are cut on both sides to this length, and prompts with a context first at the
            context's end; other prompts are never cut.
        context: Stands before the text, and is cut first where there is no room.
        max_context_tokens: Of the context; without it, it is cut by whole lines.
        system: The system message of a chat; empty for none.
    """

    text: str
    suffix: str | None = None
    is_chat: bool = False
    max_tokens: int | None = None
    context: str = ""
    max_context_tokens: int | None = None
    system: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages of a chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.text}]


def prompt_stripped(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The prompt without white space at both ends."""
    return Prompt(problem.prompt.strip())


def prompt_stripped_line(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The prompt without white space at both ends, and one line feed."""
    return Prompt(f"{problem.prompt.strip()}\n")


def prompt_whole(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The unchanged prompt."""
    return Prompt(problem.prompt)


def prompt_infilling(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """Prefix and suffix."""
    return Prompt(problem.prompt, problem.suffix or "")


def prompt_request(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The prompt as a chat message."""
    return Prompt(problem.prompt, is_chat=True)


def prompt_function(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """A chat message that requests the whole function."""
    return Prompt(
        f"Complete this function and reply with all of it.\n```python\n{problem.prompt.strip()}\n```", is_chat=True
    )


def prompt_mbpp(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The task and its first test as a docstring, as InCoder's authors did it."""
    return Prompt(f'"""\n{problem.notes["text"]}\n{problem.notes["test_list"][0]}\n"""\n')


def prompt_mbpp_shots(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The task with all of its tests, after worked examples.

    Source:
        Austin et al. 2021, arXiv:2108.07732, section 3.
    """
    parts = []
    for one in (*shots, problem):
        tests = "\n".join(one.notes["test_list"])
        answer = "" if one is problem else f"{one.notes['code']}\n[DONE]\n\n"
        task = f"You are an expert Python programmer, and here is your task: {one.notes['text']}"
        parts.append(f"{task} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n{answer}")
    return Prompt("".join(parts))


def prompt_fixing(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """A function with a fault (`mutant` in the notes), and the beginning of the correct one."""
    return Prompt(
        f"# This program has a bug:\n{problem.notes['mutant'].strip()}\n\n"
        f"# This program is the same without the bug:\n{problem.prompt.strip()}"
    )


def prompt_tests(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """A correct function, and the beginning of its test."""
    program = f"{problem.prompt}{problem.reference}".strip()
    return Prompt(f"{program}\n\n\ndef test_{problem.name}():\n    assert {problem.name}(")


def prompt_suite(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """A correct function, and the head of its test."""
    program = f"{problem.prompt}{problem.reference}".strip()
    return Prompt(f"{program}\n\n\ndef test_{problem.name}():\n    ")


def program_behind_prompt(problem: Problem, text: str) -> tuple[str, str]:
    """The stripped prompt, the answer and the tests."""
    return problem.prompt.strip() + text, problem.tests


def program_behind_whole(problem: Problem, text: str) -> tuple[str, str]:
    """The unchanged prompt, the answer and the tests."""
    return problem.prompt + text, problem.tests


def program_behind_line(problem: Problem, text: str) -> tuple[str, str]:
    """The stripped prompt, a line feed, the answer and the tests."""
    return f"{problem.prompt.strip()}\n{text}", problem.tests


def program_alone(problem: Problem, text: str) -> tuple[str, str]:
    """The answer and the tests."""
    return text, problem.tests


def program_in_answer(problem: Problem, text: str) -> tuple[str, str]:
    """The code in a chat answer, after the imports of the prompt, or after the whole prompt if it is only a body."""
    names = {problem.name} if problem.name else list_wanted(problem.tests)
    code = extract_code(text, names)
    if not problem.name:
        return code, problem.tests
    if (body := find_body(code)) is not None:
        return f"{problem.prompt.rstrip()}\n{body}\n", problem.tests
    head = problem.prompt.partition(f"def {problem.name}")[0]
    return f"{head}\n{code}", problem.tests


def program_mbpp(problem: Problem, text: str) -> tuple[str, str]:
    """The docstring, the answer and the tests."""
    return prompt_mbpp(problem, ()).text + text, problem.tests


def program_filled_in(problem: Problem, text: str) -> tuple[str, str]:
    """Prefix, answer and suffix, and the tests."""
    return f"{problem.prompt}{text}{problem.suffix}", problem.tests
