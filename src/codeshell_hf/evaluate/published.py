"""Results from CodeShell's technical report in percent, for comparison."""

SOURCE = "CodeShell Technical Report (2024), Tables 4, 5 and 6; HumanEval and MBPP with two digits from its README"
NAMES = ("CodeShell-7b", "CodeLlama-7b", "StarCoder-7b", "StarCoder-15b")
# By task and language: the results of NAMES, in order.
EXECUTION: dict[tuple[str, str], tuple[float | None, ...]] = {
    ("humaneval", "py"): (34.32, 29.44, 27.80, None),
    ("mbpp", "py"): (38.65, 37.60, 34.16, None),
    ("multipl-e", "js"): (33.17, 31.30, 27.02, 30.50),
    ("multipl-e", "java"): (30.43, 29.24, 24.30, 28.16),
    ("multipl-e", "cpp"): (28.21, 27.33, 23.04, 29.69),
    ("multipl-e", "swift"): (24.30, 25.32, 15.70, 18.86),
    ("multipl-e", "php"): (30.87, 25.96, 22.11, 26.65),
    ("multipl-e", "d"): (8.85, 11.60, 8.08, 13.33),
    ("multipl-e", "jl"): (22.08, 25.28, 22.96, 22.20),
    ("multipl-e", "lua"): (22.39, 30.50, 22.92, 23.35),
    ("multipl-e", "r"): (20.52, 18.57, 14.29, 15.90),
    ("multipl-e", "rkt"): (17.20, 12.55, 10.43, 9.94),
    ("multipl-e", "rs"): (24.55, 25.90, 22.82, 21.92),
    ("infilling-santacoder", "python"): (65.3, 67.6, None, 62.0),
    ("infilling-santacoder", "java"): (76.9, 74.3, None, 73.0),
    ("infilling-santacoder", "javascript"): (80.6, 80.2, None, 74.0),
}


# The protocols of these results, and the least number of problems that their data have in a language.
PROTOCOLS = {
    "humaneval-released-v1": ("humaneval", 164),
    "mbpp-released-0shot-v1": ("mbpp", 500),
    "multipl-e-released-v1": ("multipl-e", 156),
    "infilling-santacoder-v1": ("infilling-santacoder", 1_000),
}


def find_published(profile: str, language: str, problems: int) -> float | None:
    """The report's result of CodeShell-7b in percent; `None` unless protocol and data are the same.

    >>> find_published("multipl-e-released-v1", "js", 161), find_published("multipl-e-greedy-v1", "js", 161)
    (33.17, None)
    """
    task, least = PROTOCOLS.get(profile, ("", 0))
    figures = EXECUTION.get((task, language))
    return figures[0] if figures is not None and problems >= least else None
