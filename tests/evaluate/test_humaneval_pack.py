"""HumanEvalFix and HumanEval-XL: prompts and cuts of the released harness, and tests as this sandbox runs them."""

from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.execution import open_executor, score_programs
from codeshell_hf.evaluate.humaneval_pack import adapt_tests, find_language, take_function
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.sandbox import Sandbox
from tests.evaluate.sets import SMALL


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("py", "\n    x = 1\n\n    return x\nprint(1)\n", "\n    x = 1\n\n    return x"),
        ("py", "\n    return x\n\n\n", "\n    return x"),
        ("js", "\n  if (a) { b }\n  return c;\n}\nfunction d() {}", "\n  if (a) { b }\n  return c;\n}"),
        ("java", "\n        return 1;\n    }\n}\nclass B {}", "\n        return 1;\n    }\n}"),
        ("java", "\n        return 1;\n    }\n    void x() {", "\n        return 1;\n    }"),
        ("cpp", "\n    return 1;", "\n    return 1;"),
        ("cpp", "\n    if (a) { b }\n    return 1;", "\n    if (a) { b }"),
    ],
)
def test_a_function_ends_where_the_harness_ends_it(language: str, text: str, kept: str) -> None:
    assert take_function(Problem("a", language, ""), text) == kept


def test_prompts_of_faults_are_those_of_the_harness() -> None:
    problem = read_problems(SMALL / "humanevalfix-python.jsonl", PROFILES["humanevalfix-tests-v1"].read)[0]
    head = "def add_even(numbers):\n"
    faulty = "    return sum(number for number in numbers if number % 2 == 1)\n"

    by_tests = PROFILES["humanevalfix-tests-v1"].make_prompt(problem, ()).text
    by_docs = PROFILES["humanevalfix-docs-v1"].make_prompt(problem, ()).text

    assert by_tests.startswith(f"{head}{faulty}\n\n\ndef check(add_even):")
    assert by_tests.endswith("\n\ncheck(add_even)\nFix bugs in add_even.\n\ndef add_even(numbers):")
    doc = '    """Adds the even numbers of a list."""'
    assert by_docs == f"{head}{doc}\n{faulty}\nFix bugs in add_even.\n\n{head}{doc}"


def test_the_faulty_function_fails(sandbox: Sandbox) -> None:
    profile = PROFILES["humanevalfix-tests-v1"]
    problems = read_problems(SMALL / "humanevalfix-python.jsonl", profile.read)
    executor = open_executor(profile, problems, sandbox)
    assert profile.program is not None

    faulty = {one.key: [profile.program(one, profile.cut(one, f"\n{one.notes['faulty']}"))[0]] for one in problems}

    assert score_programs(executor, problems, faulty).measures["pass@1"].value == 0


def test_tests_of_other_languages_cannot_be_ignored() -> None:
    """console.assert only prints, and the other adaptions are names and packages."""
    assert adapt_tests("console.assert(f(1) === 2)", "js") == "assertOfTests(f(1) === 2)"
    assert adapt_tests("class Main {}\nclass Mainly {}", "java") == "class Problem {}\nclass Mainly {}"
    rust = adapt_tests("#[cfg(test)]\nmod tests {\n    use super::*;\n    #[test]\n    fn one() { }\n}", "rs")
    assert "pub fn one() { }" in rust
    assert rust.endswith("fn main() { tests::one(); }\n")


def test_an_id_names_its_language() -> None:
    assert [find_language(f"{name}/0", {"cpp": "cpp", "rust": "rs"}, "p") for name in ("CPP", "C++", "Rust")] == [
        "cpp", "cpp", "rs",
    ]  # fmt: skip
    with pytest.raises(DataError, match="names no language"):
        find_language("HumanEval/0", {"cpp": "cpp"}, "p")


def test_a_solution_that_is_missing_is_no_text(tmp_path: Path) -> None:
    row = '{"task_id": "go/0", "prompt": "p", "test": "t", "entry_point": "f", "natural_language": "English", '
    path = tmp_path / "English.jsonl"
    path.write_text(row + '"canonical_solution": "nan"}')

    problem = read_problems(path, PROFILES["humaneval-xl-v1"].read)[0]

    assert (problem.id, problem.language, problem.reference) == ("go/0/English", "go", None)
