"""RepoBench and CrossCodeEval: the next line or statement of a file, after fragments of other files of its repository.

Sources:
    Liu et al. 2023, arXiv:2306.03091 (RepoBench v1.1), and Ding et al. 2023, arXiv:2310.11248 (CrossCodeEval), with
    their released prompts, cuts and metrics.
"""

import ast
import difflib
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from .judged import UNREADABLE
from .problems import Problem, Row, get_texts, read_rows
from .prompts import Prompt
from .scores import SHOWN, Score, make_score, mean

REPOBENCH_PROMPT_TOKENS = 15_800
CROSSCODEEVAL_PROMPT_TOKENS, CROSSCODEEVAL_CONTEXT_TOKENS = 16_234, 12_800  # 16,384 without 50 new ones and a buffer
LANGUAGES = {".py": "python", ".java": "java", ".cs": "csharp", ".ts": "typescript", ".tsx": "typescript"}
Compare = Callable[[Problem, str], tuple[float, ...]]
SETTING = re.compile("cross_file_first|cross_file_random|in_file")
STRINGS = re.compile(r'"([^"\\]*(\\.[^"\\]*)*)"|\'([^\'\\]*(\\.[^\'\\]*)*)\'')
COMMENTS = re.compile(r"#.*|//.*")
# What CrossCodeEval does not count as identifiers.
KEYWORDS = {
    "python": frozenset(keyword.kwlist) - {"True", "False"},
    "java": frozenset(
        [
            "abstract",
            "assert",
            "boolean",
            "break",
            "byte",
            "case",
            "catch",
            "char",
            "class",
            "const",
            "continue",
            "default",
            "do",
            "double",
            "else",
            "enum",
            "extends",
            "final",
            "finally",
            "float",
            "for",
            "goto",
            "if",
            "implements",
            "import",
            "instanceof",
            "int",
            "interface",
            "long",
            "native",
            "new",
            "package",
            "private",
            "protected",
            "public",
            "return",
            "short",
            "static",
            "strictfp",
            "super",
            "switch",
            "synchronized",
            "this",
            "throw",
            "throws",
            "transient",
            "try",
            "var",
            "void",
            "volatile",
            "while",
        ]
    ),
    "csharp": frozenset(
        [
            "abstract",
            "as",
            "base",
            "bool",
            "break",
            "byte",
            "case",
            "catch",
            "char",
            "checked",
            "class",
            "const",
            "continue",
            "decimal",
            "default",
            "delegate",
            "do",
            "double",
            "else",
            "enum",
            "event",
            "explicit",
            "extern",
            "finally",
            "fixed",
            "float",
            "for",
            "foreach",
            "goto",
            "if",
            "implicit",
            "in",
            "int",
            "interface",
            "internal",
            "is",
            "lock",
            "long",
            "namespace",
            "new",
            "null",
            "object",
            "operator",
            "out",
            "override",
            "params",
            "private",
            "protected",
            "public",
            "readonly",
            "ref",
            "return",
            "sbyte",
            "sealed",
            "short",
            "sizeof",
            "stackalloc",
            "static",
            "string",
            "struct",
            "switch",
            "this",
            "throw",
            "try",
            "typeof",
            "uint",
            "ulong",
            "unchecked",
            "unsafe",
            "ushort",
            "using",
            "virtual",
            "void",
            "volatile",
            "while",
        ]
    ),
    "typescript": frozenset(
        [
            "break",
            "case",
            "catch",
            "class",
            "const",
            "continue",
            "debugger",
            "default",
            "delete",
            "do",
            "else",
            "enum",
            "export",
            "extends",
            "finally",
            "for",
            "function",
            "if",
            "implements",
            "import",
            "in",
            "instanceof",
            "interface",
            "let",
            "new",
            "package",
            "private",
            "protected",
            "public",
            "return",
            "static",
            "super",
            "switch",
            "this",
            "throw",
            "try",
            "typeof",
            "var",
            "void",
            "while",
            "with",
            "yield",
        ]
    ),
}


def read_repobench(path: Path) -> list[Problem]:
    """Reads one setting of RepoBench v1.1, named by its file.

    Fields: `repo_name`, `file_path`, `context` (a list of `path` and `snippet`), `import_statement`, `cropped_code`,
    `next_line`, and optionally `created_at`.

    Raises:
        DataError: If a field is missing or of another type.
    """
    problems = []
    found = SETTING.search(path.name)
    setting = found.group() if found else path.name.partition(".")[0]
    for number, (place, row) in enumerate(read_rows(path)):
        repository, file, imports, code, line = get_texts(
            row, place, "repo_name", "file_path", "import_statement", "cropped_code", "next_line"
        )
        sign = "#" if file.endswith(".py") else "//"
        context = f"{sign} Repo Name: {repository}\n"
        context += "".join(f"{sign} Path: {one['path']}\n{one['snippet']}\n\n" for one in get_context(row, place))
        prompt = f"{sign} Path: {file}\n{imports}\n{code.rstrip()}\n"
        notes = {"context": context, "date": str(row.get("created_at", ""))[:10], "setting": setting, "answer": line}
        language = LANGUAGES.get(Path(file).suffix, "other")
        problems.append(Problem(f"{setting}/{number}", language, prompt, None, line, notes=notes))
    return problems


def get_context(row: Row, place: str) -> list[Row]:
    """The fragments of other files; a `DataError` if they are none."""
    context = row.get("context")
    if not isinstance(context, list) or not all(
        isinstance(one, dict) and isinstance(one.get("path"), str) and isinstance(one.get("snippet"), str)
        for one in context
    ):
        raise DataError(f"{place} has no list context of path and snippet; give every field of RepoBench")
    return context


def read_crosscodeeval(path: Path) -> list[Problem]:
    """Reads CrossCodeEval with retrieved fragments, or without.

    Fields: `prompt`, `groundtruth`, `right_context`, `metadata` with `task_id` and `file`, and `crossfile_context` with
    `text` in files with retrieval.

    Raises:
        DataError: If a field is missing or of another type.
    """
    problems = []
    for place, row in read_rows(path):
        prompt, line = get_texts(row, place, "prompt", "groundtruth")
        metadata, context = row.get("metadata"), row.get("crossfile_context", {"text": ""})
        if not isinstance(metadata, dict) or not isinstance(context, dict):
            raise DataError(f"{place} has no object metadata or crossfile_context; give every field of CrossCodeEval")
        key, file = get_texts(metadata, place, "task_id", "file")
        text = get_texts(context, place, "text")[0]
        notes = {"context": text, "answer": f"{line}\n"}
        language = LANGUAGES.get(Path(file).suffix, "other")
        problems.append(Problem(key, language, prompt, None, line, notes=notes))
    return problems


def prompt_next_line(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """Fragments of other files, cut by lines from their end if there is no room, and the file up to the line.

    Four and more line feeds become two.
    """
    text = re.sub(r"\n{4,}", "\n\n", problem.prompt)
    context = re.sub(r"\n{4,}", "\n\n", problem.notes["context"])
    return Prompt(text, context=context, max_tokens=REPOBENCH_PROMPT_TOKENS)


def prompt_statement(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """Fragments of other files, up to a number of tokens, and the file up to the statement, cut at its beginning."""
    return Prompt(
        problem.prompt, context=f"{problem.notes['context']}\n", max_tokens=CROSSCODEEVAL_PROMPT_TOKENS,
        max_context_tokens=CROSSCODEEVAL_CONTEXT_TOKENS,
    )  # fmt: skip


def take_first_line(problem: Problem, text: str) -> str:
    """The first line that is neither blank nor a comment, as RepoBench takes it; the first line if there is none."""
    lines = text.lstrip("\n").split("\n")
    is_python = problem.language == "python"
    opening, ending = (('"""', "'''"), ('"""', "'''")) if is_python else (("/*",), ("*/",))
    is_comment = False
    for line in lines:
        stripped = line.strip()
        if not stripped:
            continue
        if not is_comment and stripped.startswith(opening):
            is_comment = True
        elif is_comment and stripped.endswith(ending):
            is_comment = False
        elif not is_comment and not stripped.startswith("#" if is_python else "//"):
            return line
    return lines[0]


def take_statement(problem: Problem, text: str) -> str:
    """The first statement, as CrossCodeEval takes it: up to a bracket or semicolon, in Python up to a whole line."""
    if problem.language != "python":
        end = next((place for place, sign in enumerate(text) if sign in ";{}"), 0)
        return text[: end + 1] if end else text
    for place, sign in enumerate(text):
        if sign == "\n" and place and parses(f"{problem.prompt}{text[:place]}"):
            return text[:place].rstrip()
    return text


def parses(code: str) -> bool:
    """Whether a grammar of Python finds no error; a function's body may still be missing."""
    from .grammar import has_errors

    return not has_errors(code, "python")


def compare_fuzzily(written: str, reference: str) -> int:
    """The similarity of two texts as both benchmarks measure it (fuzzywuzzy's ratio), 0 to 100.

    >>> compare_fuzzily("return a", "return b"), compare_fuzzily("", "x"), compare_fuzzily("x", "x")
    (88, 0, 100)
    """
    if written == reference:
        return 100
    if not written or not reference:
        return 0
    return round(100 * difflib.SequenceMatcher(None, written, reference).ratio())


def score_next_lines(problems: Sequence[Problem], texts: Mapping[str, Sequence[str]]) -> Score:
    """Scores lines by RepoBench's rules: "exact match" of words, and "edit similarity"."""

    def compare(problem: Problem, text: str) -> tuple[float, ...]:
        reference = problem.reference or ""
        return float(text.split() == reference.split()), compare_fuzzily(text, reference) / 100

    return score_pairs(problems, texts, ("exact match", "edit similarity"), compare)


def score_statements(problems: Sequence[Problem], texts: Mapping[str, Sequence[str]]) -> Score:
    """Scores statements by CrossCodeEval's rules: also "identifier match", and "identifier F1"."""

    def compare(problem: Problem, text: str) -> tuple[float, ...]:
        written, reference = COMMENTS.sub("", text), COMMENTS.sub("", problem.reference or "")
        lines, wanted = (
            [line.strip() for line in one.split("\n") if line.strip()] for one in (written, reference)
        )  # fmt: skip
        names, wanted_names = (list_identifiers(one, problem.language) for one in (written, reference))
        return (
            float(lines == wanted), compare_fuzzily(written.strip(), reference.strip()) / 100,
            float(names == wanted_names), f1(set(names), set(wanted_names)),
        )  # fmt: skip

    return score_pairs(
        problems, texts, ("exact match", "edit similarity", "identifier match", "identifier F1"), compare
    )  # fmt: skip


def list_identifiers(code: str, language: str) -> list[str]:
    """The words of some code that are neither keywords nor in strings nor begin with a digit."""
    words = re.findall(r"\w+", STRINGS.sub("", code))
    return [word for word in words if re.match("[_a-zA-Z]", word) and word not in KEYWORDS.get(language, ())]


def f1(found: set[str], wanted: set[str]) -> float:
    """The harmonic mean of precision and recall; 0 if there is nothing."""
    both = len(found & wanted)
    total = 2 * both + len(found - wanted) + len(wanted - found)
    return 2 * both / total if total else 0.0


def score_calls(problems: Sequence[Problem], texts: Mapping[str, Sequence[str]]) -> Score:
    """Scores calls by SAFIM's rule: "exact match" without white space, in Python with keywords in any order."""

    def compare(problem: Problem, text: str) -> tuple[float, ...]:
        return (float(is_same_call(text, problem.reference or "", problem.language)),)

    return score_pairs(problems, texts, ("exact match",), compare)


def is_same_call(written: str, reference: str, language: str) -> bool:
    """Whether two calls are equal without white space; two calls in Python if their arguments are.

    As in SAFIM's evaluation, the name of the function is not compared.
    """
    one, other = ("".join(text.split()) for text in (written, reference))
    if language == "py":
        try:
            trees = [ast.parse(text, mode="eval").body for text in (one, other)]
        except UNREADABLE:
            trees = []
        calls = [tree for tree in trees if isinstance(tree, ast.Call)]
        if len(calls) == 2:
            first, second = map(list_arguments, calls)
            return first == second
    return one == other


def list_arguments(call: ast.Call) -> tuple[list[str], dict[str | None, str]]:
    """The arguments of a call, by place and by name."""
    return [ast.dump(given) for given in call.args], {given.arg: ast.dump(given.value) for given in call.keywords}


def score_pairs(
    problems: Sequence[Problem],
    texts: Mapping[str, Sequence[str]],
    names: Sequence[str],
    compare: Compare,
) -> Score:
    """Compares answers with references: means of several measures, of which the first says what is right."""
    found = {problem.key: [compare(problem, text) for text in texts[problem.key]] for problem in problems}
    values = {
        name: [mean([one[place] for one in found[problem.key]]) for problem in problems]
        for place, name in enumerate(names)
    }
    score = make_score(values, [problem.language for problem in problems])
    score.counts = {"problems": len(problems), "samples": sum(map(len, found.values()))}
    for problem in problems:
        own = found[problem.key]
        score.problems.append({
            "id": problem.id, "language": problem.language, "samples": len(own), "right": sum(one[0] for one in own)
        })  # fmt: skip
    score.samples = [
        {"id": problem.id, "reference": problem.reference, "written": (list(texts[problem.key]) or [""])[0]}
        for problem in problems[:SHOWN]
    ]
    return score
