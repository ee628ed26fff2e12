"""What a benchmark's protocol consists of."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from ..errors import SettingsError
from .problems import Problem
from .prompts import Prompt

Measure = Literal[
    "execution", "exact match", "lines", "text", "tests", "security", "refusal", "memorisation", "held-out lines",
    "next line", "statement", "syntax match", "suites",
]  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """The protocol of a benchmark.

    Args:
        name: With its version.
        source: Where the protocol is from.
        read: Reads a file of the benchmark.
        make_prompt: Makes a prompt from a problem and worked examples.
        measure: How answers are scored.
        stops: Texts that end an answer, besides the problem's own.
        temperature: 0 is greedy decoding.
        samples: Answers to each problem.
        ks: Values of k for pass@k.
        max_tokens: Limit of prompt and answer together, if the protocol has one.
        shots: Numbers of the problems that are worked examples.
        numbers: First and last number of the evaluated problems, if the file has more.
        timeout_s: For Python; other languages have their own.
        program: Combines problem and answer into the program to run, and its tests.
        module: The `__name__` of Python programs; `builtins` is what harnesses' empty scopes make of it.
        has_input: Whether programs may read standard input, which is empty.
        max_memory_bytes: Of a Python program; `None` for the sandbox's.
        is_own_measure: Whether only the problems are a benchmark's, and what is measured with them is ours.
        form: The benchmark whose data format is read, empty if there is none, and what other problems in it are called.
        finish: Cuts an answer by the benchmark's own rules, after the stops.
        is_strict: Whether its Python tests can run in another process than the program.
        max_resident_bytes: What all processes of a Python program hold together; `None` for `max_memory_bytes`.
        max_processes: Of a Python program; `None` for the sandbox's.
        needs_packages: Whether programs import packages, which a task's `packages` names.
        faults: Faulty programs of each problem, each of which becomes a problem of its own; 0 keeps the problems.
    """

    name: str
    source: str
    read: Callable[[Path], list[Problem]]
    make_prompt: Callable[[Problem, Sequence[Problem]], Prompt]
    measure: Measure
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    ks: tuple[int, ...] = (1,)
    max_new_tokens: int = 512
    max_tokens: int | None = None
    shots: tuple[int, ...] = ()
    numbers: tuple[int, int] | None = None
    timeout_s: float = 3.0
    program: Callable[[Problem, str], tuple[str, str]] | None = None
    module: str = "builtins"
    has_input: bool = False
    max_memory_bytes: int | None = None
    is_own_measure: bool = False
    form: tuple[str, str] = ("", "problems")
    finish: Callable[[Problem, str], str] | None = None
    is_strict: bool = True
    max_resident_bytes: int | None = None
    max_processes: int | None = None
    needs_packages: bool = False
    faults: int = 0

    def describe(self) -> dict[str, object]:
        """The protocol as results record it; newer fields only where set, so that stored answers stay valid."""
        later = {field.name for field in fields(self)[FIRST_LATER:] if getattr(self, field.name) == field.default}
        values = {name: value for name, value in asdict(self).items() if name not in UNRECORDED | later}
        return {key: value if isinstance(value, (str, int, float, tuple, type(None))) else value.__name__
                for key, value in values.items()}  # fmt: skip

    def cut(self, problem: Problem, text: str) -> str:
        """Cuts an answer at the first stop of the profile or the problem, and by the benchmark's own rules."""
        places = [place for stop in (*self.stops, *problem.stops) if (place := text.find(stop)) >= 0]
        text = text[: min(places)] if places else text
        return text if self.finish is None else self.finish(problem, text)

    def choose(self, problems: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
        """Separates the evaluated problems from the worked examples.

        Raises:
            SettingsError: If an example is not in the file.
        """
        numbered = {problem.notes.get("number"): problem for problem in problems}
        if missing := [number for number in self.shots if number not in numbered]:
            raise SettingsError(
                f"{self.name} shows problems {', '.join(map(str, self.shots))}, but the data lack {missing[0]}; give "
                "the complete file"
            )
        shown = [numbered[number] for number in self.shots]
        rest = [problem for problem in problems if problem not in shown]
        if self.numbers is not None:
            first, last = self.numbers
            rest = [problem for problem in rest if first <= problem.notes["number"] <= last]
        return rest, shown


UNRECORDED = {"is_own_measure", "form"}
FIRST_LATER = [field.name for field in fields(Profile)].index("finish")
