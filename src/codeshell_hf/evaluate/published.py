"""Which data are those of a published benchmark, what others are called, and the technical report's results."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .problems import HUB_PREFIX, Problem
from .published_digests import DIGESTS

DIGEST_CHARACTERS = 16
# Where each benchmark's authors, or those who keep it for them, publish it on the Hub.
PUBLISHERS = {
    "HumanEval": ("openai/openai_humaneval",),
    "HumanEval+": ("evalplus/humanevalplus",),
    "MBPP": ("google-research-datasets/mbpp",),
    "MBPP+": ("evalplus/mbppplus",),
    "MultiPL-E": ("nuprl/MultiPL-E",),
    "HumanEval-Infilling single lines": ("loubnabnl/humaneval_infilling",),
    "SantaCoder FIM": ("bigcode/santacoder-fim-task",),
    "HumanEvalFix": ("bigcode/humanevalpack",),
    "CRUXEval": ("cruxeval-org/cruxeval",),
    "MMLU": ("cais/mmlu",),
    "GSM8K": ("openai/gsm8k",),
    "LiveCodeBench": ("livecodebench/code_generation", "livecodebench/code_generation_lite"),
    "BigCodeBench": ("bigcode/bigcodebench", "bigcode/bigcodebench-hard"),
    "SAFIM": ("gonglinyuan/safim",),
    "HumanEval-XL": ("FloatAI/HumanEval-XL",),
    "RepoBench": ("tianyang/repobench_python_v1.1", "tianyang/repobench_java_v1.1"),
}
# Names that only their own data carry, spelled with or without marks between the parts.
_PUBLISHED_NAME = re.compile(
    r"human[\W_]*eval[\W_]*(?:x|xl|fix|pack|plus|infilling|\+)?|mbpp[\W_]*(?:plus|\+)?|multip[l][\W_]*e(?![a-z])|mmlu"
    r"(?:[\W_]*pro)?|gsm[\W_]*8k|santa[\W_]*coder(?:[\W_]*fim)?|crux[\W_]*eval|live[\W_]*code[\W_]*bench|"
    r"big[\W_]*code[\W_]*bench|safim|repo[\W_]*bench|cross[\W_]*code[\W_]*eval|mc[\W_]*eval|if[\W_]*eval|"
    r"eval[\W_]*plus|coder?[\W_]*ujb|code[\W_]*x[\W_]*glue|ds[\W_]*1000|swe[\W_]*bench|math[\W_]*500|"
    r"hella[\W_]*swag|truthful[\W_]*qa|c[\W_]*eval(?![a-z])|cmmlu|bbh|agieval",
    re.IGNORECASE,
)  # fmt: skip

SOURCE = "CodeShell Technical Report (2024), Tables 4, 5 and 6; HumanEval and MBPP with two digits from its README"
NAMES = ("CodeShell-7b", "CodeLlama-7b", "StarCoder-7b", "StarCoder-15b")
# By benchmark and language: the results of NAMES in percent, in order.
EXECUTION: dict[tuple[str, str], tuple[float | None, ...]] = {
    ("HumanEval", "py"): (34.32, 29.44, 27.80, None),
    ("MBPP", "py"): (38.65, 37.60, 34.16, None),
    ("MultiPL-E", "js"): (33.17, 31.30, 27.02, 30.50),
    ("MultiPL-E", "java"): (30.43, 29.24, 24.30, 28.16),
    ("MultiPL-E", "cpp"): (28.21, 27.33, 23.04, 29.69),
    ("MultiPL-E", "swift"): (24.30, 25.32, 15.70, 18.86),
    ("MultiPL-E", "php"): (30.87, 25.96, 22.11, 26.65),
    ("MultiPL-E", "d"): (8.85, 11.60, 8.08, 13.33),
    ("MultiPL-E", "jl"): (22.08, 25.28, 22.96, 22.20),
    ("MultiPL-E", "lua"): (22.39, 30.50, 22.92, 23.35),
    ("MultiPL-E", "r"): (20.52, 18.57, 14.29, 15.90),
    ("MultiPL-E", "rkt"): (17.20, 12.55, 10.43, 9.94),
    ("MultiPL-E", "rs"): (24.55, 25.90, 22.82, 21.92),
    ("SantaCoder FIM", "python"): (65.3, 67.6, None, 62.0),
    ("SantaCoder FIM", "java"): (76.9, 74.3, None, 73.0),
    ("SantaCoder FIM", "javascript"): (80.6, 80.2, None, 74.0),
}
# The protocols of these results.
PROTOCOLS = {
    "humaneval-released-v1": "HumanEval",
    "mbpp-released-0shot-v1": "MBPP",
    "multipl-e-released-v1": "MultiPL-E",
    "infilling-santacoder-v1": "SantaCoder FIM",
}
# The report's names of the languages of infilling data.
_REPORTED = {("SantaCoder FIM", "py"): "python", ("SantaCoder FIM", "js"): "javascript"}


@dataclass(frozen=True)
class TaskName:
    """What a task's results are called.

    Args:
        title: For tables.
        benchmark: The published benchmark whose data these are, complete and under its own kind of measure; else empty.
        dataset: The benchmark's name on the Hub, if its data are used.
    """

    title: str = ""
    benchmark: str = ""
    dataset: str = ""


def name_task(
    key: str, *, data: str, problems: Sequence[Problem], used: int, form: str, own: str, is_own_measure: bool = False
) -> TaskName:
    """Names a task after what was run: a published name stands only for published data.

    Args:
        key: The task's name in the settings.
        data: As in the settings.
        problems: All problems that the profile chooses from the data.
        used: Number of those that are evaluated.
        form: The benchmark whose data format and measure the profile has; may be empty.
        own: What such problems are called if they are not its problems.
        is_own_measure: Whether the profile only takes the benchmark's problems, and measures something of its own.

    >>> name_task("humaneval", data="", problems=[], used=8, form="HumanEval", own="functions").title
    "functions (in HumanEval's form, 8 problems)"
    """
    found = find_benchmark(problems, data) if form else ""
    rest = " ".join(_PUBLISHED_NAME.sub(" ", key).split())
    if not found or is_own_measure or not found.startswith(form):
        label = key if rest == key else f"{own} {rest}".strip()
        origin = f"on {found}" if found else f"in {form}'s form" if form else ""
        return TaskName(f"{label} ({origin}, {used:,} problems)" if origin else label)
    part = "" if used == len(problems) else f" ({used:,} of {len(problems):,} problems)"
    dataset = PUBLISHERS[found][0] if found in PUBLISHERS else ""
    return TaskName(" ".join([found, rest]).strip() + part, "" if part else found, dataset)


def disambiguate_titles(names: Mapping[str, TaskName]) -> dict[str, TaskName]:
    """Adds the task's name in the settings to titles that two tasks have."""
    titles = [name.title for name in names.values()]
    return {
        key: name if titles.count(name.title) == 1 else TaskName(f"{name.title} [{key}]", name.benchmark, name.dataset)
        for key, name in names.items()
    }


def find_benchmark(problems: Iterable[Problem], data: str) -> str:
    """The published benchmark that problems are, by publisher or content; empty if they are not published."""
    if data.startswith(HUB_PREFIX):
        repository = data.removeprefix(HUB_PREFIX).partition("@")[0].lower()
        for name, repositories in PUBLISHERS.items():
            if repository in map(str.lower, repositories):
                return name
    by_language: dict[str, list[list[object]]] = {}
    for problem in problems:
        texts: list[object] = [problem.id, problem.prompt, problem.suffix, problem.tests]
        by_language.setdefault(problem.language, []).append(texts)
    return find_by_digests([digest_rows(rows) for rows in by_language.values()])


def find_by_digests(digests: Sequence[str]) -> str:
    """The published benchmark to which all digests belong; empty if there is none."""
    for name, own in DIGESTS.items():
        if digests and set(digests) <= set(own.values()):
            return name
    return ""


def digest_rows(rows: Iterable[Sequence[object]]) -> str:
    """A digest of what is asked and tested, in any order and file format."""
    texts = sorted(json.dumps(list(row), ensure_ascii=False) for row in rows)
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]


def find_reported(profile: str, benchmark: str, language: str) -> float | None:
    """The report's result of CodeShell-7b in percent; `None` unless protocol and data are the same.

    >>> find_reported("multipl-e-released-v1", "MultiPL-E", "js"), find_reported("multipl-e-released-v1", "", "js")
    (33.17, None)
    """
    if PROTOCOLS.get(profile) != benchmark:
        return None
    figures = EXECUTION.get((benchmark, _REPORTED.get((benchmark, language), language)))
    return figures[0] if figures is not None else None
