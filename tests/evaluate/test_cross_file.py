"""RepoBench, CrossCodeEval and SAFIM's calls: prompts, cuts and scores, by values that were worked out by hand."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.cross_file import (
    compare_fuzzily,
    is_same_call,
    list_identifiers,
    score_next_lines,
    score_statements,
    take_first_line,
    take_statement,
)
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES


def test_the_ratio_is_that_of_both_benchmarks() -> None:
    """2 * matches / lengths in percent, rounded: 3 of 4 + 3 letters is 85.7, and "abcd" has "bc" of "xbcy"."""
    assert compare_fuzzily("abcd", "abc") == 86
    assert compare_fuzzily("abcd", "xbcy") == 50
    assert compare_fuzzily("", "") == 100
    assert compare_fuzzily("", "a") == 0
    # Beyond 200 letters, frequent ones are no matches of their own, as in difflib's default.
    assert compare_fuzzily("a" * 200, "b" + "a" * 200) == 0


@pytest.mark.parametrize(
    ("language", "text", "line"),
    [
        ("python", "\n\n# why\n    x = 1\ny = 2", "    x = 1"),
        ("python", '"""\ndoc\n"""\nx = 1', "x = 1"),
        ("python", "   \n", "   "),
        ("python", "# only", "# only"),
        ("java", "// why\n/* and\n * how\n */\nint x;\nint y;", "int x;"),
        ("java", "# x", "# x"),
    ],
)
def test_the_first_line_of_code_is_taken(language: str, text: str, line: str) -> None:
    assert take_first_line(Problem("a", language, ""), text) == line


@pytest.mark.parametrize(
    ("language", "prompt", "text", "statement"),
    [
        ("java", "return s.", "count(name);\n return 2;", "count(name);"),
        ("java", "if (", "a) {\n b", "a) {"),
        ("java", "x", "no end", "no end"),
        ("java", "x", "; starts", "; starts"),  # the released cut takes a first place of 0 as none
        ("python", "x = ", "g(\n    1)\ny = 2\n", "g(\n    1)"),
        ("python", "x = ", "1\ny = 2", "1"),
        ("python", "x = ", "(1\n", "(1\n"),
        ("python", "def f():\n    return ", "a.b \n", "a.b"),
    ],
)
def test_the_first_statement_is_taken(language: str, prompt: str, text: str, statement: str) -> None:
    assert take_statement(Problem("a", language, prompt), text) == statement


def test_lines_are_scored_by_words_and_by_similarity() -> None:
    problems = [Problem(str(number), "python", "", None, "x = f(a)") for number in range(3)]
    texts = {problem.key: [text] for problem, text in zip(problems, ("  x =   f(a)", "x = g(a)", ""), strict=True)}

    score = score_next_lines(problems, texts)

    assert [row["right"] for row in score.problems] == [1, 0, 0]
    assert score.measures["exact match"].value == pytest.approx(1 / 3, abs=1e-4)
    # By hand: 2 * 8 / 20, 2 * 7 / 16 and nothing.
    assert score.measures["edit similarity"].value == pytest.approx((0.80 + 0.88 + 0) / 3, abs=1e-4)


def test_statements_are_scored_without_comments_and_by_identifiers() -> None:
    problem = Problem("a", "java", "", None, "count(name, size);  // units")
    texts = {problem.key: ["count(name,\n\n size);", "count(size, other);"]}

    score = score_statements([problem], texts)

    # The first is another list of lines; its identifiers are the same in order. Of the second two of three are shared.
    assert score.measures["exact match"].value == 0
    assert score.measures["identifier match"].value == 0.5
    assert score.measures["identifier F1"].value == pytest.approx((1 + 2 / 3) / 2, abs=1e-4)
    same = score_statements([problem], {problem.key: ["  count(name, size);"]})
    assert {name: measure.value for name, measure in same.measures.items()} == dict.fromkeys(
        ("exact match", "edit similarity", "identifier match", "identifier F1"), 1.0
    )


def test_identifiers_are_neither_keywords_nor_texts_nor_numbers() -> None:
    assert list_identifiers("return self.name + \"text\" + 'x' + 2d + True", "python") == ["self", "name", "True"]
    assert list_identifiers("using var name = new Store();", "csharp") == ["var", "name", "Store"]
    assert list_identifiers("await x", "typescript") == ["await", "x"]


@pytest.mark.parametrize(
    ("language", "written", "is_right"),
    [
        ("py", "rows.sort(reverse=True, key=key)", True),
        ("py", "rows.sort( key = key,\n reverse=True)", True),
        ("py", "rows.sort(key=key)", False),
        ("py", "other(key=key, reverse=True)", True),  # the released evaluation compares arguments alone
        ("java", "rows.sort(reverse=True, key=key)", False),
        ("java", "rows.sort(key=key, reverse=True)", True),
        ("py", "rows.sort(key=key, reverse=True", False),
        ("py", "", False),
    ],
)
def test_calls_are_compared_by_their_arguments(language: str, written: str, is_right: bool) -> None:
    assert is_same_call(written, "rows.sort(key=key, reverse=True)", language) is is_right


def test_repobench_prompts_name_the_repository_and_its_files(tmp_path: Path) -> None:
    row = {
        "repo_name": "o/r", "file_path": "a.py", "context": [{"path": "b.py", "snippet": "x = 1", "identifier": "x"}],
        "import_statement": "import b", "cropped_code": "\n\n\n\n\ndef f():\n", "next_line": "    return b.x",
        "created_at": "2023-11-02 03:04:05",
    }  # fmt: skip
    path = tmp_path / "cross_file_random-00000-of-00001.jsonl"
    path.write_text(json.dumps(row))

    profile = PROFILES["repobench-v1"]
    problem = read_problems(path, profile.read)[0]
    prompt = profile.make_prompt(problem, ())

    assert problem.id == "cross_file_random/0"
    assert problem.notes["date"] == "2023-11-02"
    assert prompt.context == "# Repo Name: o/r\n# Path: b.py\nx = 1\n\n"
    assert prompt.text == "# Path: a.py\nimport b\n\ndef f():\n"
    path.write_text(json.dumps({**row, "context": ["b.py"]}))
    with pytest.raises(DataError, match="no list context"):
        read_problems(path, profile.read)


def test_crosscodeeval_is_read_with_and_without_retrieval(tmp_path: Path) -> None:
    row = {"prompt": "x", "groundtruth": "y;", "right_context": "", "metadata": {"task_id": "t/1", "file": "a/B.cs"}}
    path = tmp_path / "line_completion.jsonl"
    path.write_text(json.dumps(row))
    profile = PROFILES["crosscodeeval-v1"]

    problem = read_problems(path, profile.read)[0]

    assert (problem.id, problem.language, problem.notes["context"]) == ("t/1", "csharp", "")
    path.write_text(json.dumps({**row, "metadata": "t/1"}))
    with pytest.raises(DataError, match="no object metadata"):
        read_problems(path, profile.read)
