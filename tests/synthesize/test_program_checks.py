"""What the sandbox says of answers and tests, hostile ones included."""

from pathlib import Path

import pytest

from codeshell_hf.sandbox import Sandbox, Verdict
from codeshell_hf.synthesize.program_checks import CheckOutcome, check_programs, empty_bodies, judge_run, try_mutants
from codeshell_hf.synthesize.settings import CheckSettings
from codeshell_hf.synthesize.task_rules import SynthesizedTask
from codeshell_hf.text.cache import JsonLinesCache
from tests.synthesize.conftest import open_small

CHECKS = CheckSettings(repeats=2, max_mutants=6, max_seconds=1.0, min_killed=0.5)
GOOD = ("def clip(x):\n    return 0 if x < 0 else x", "assert clip(-1) == 0\nassert clip(0) == 0\nassert clip(3) == 3")


def task(program: str, tests: str) -> SynthesizedTask:
    return SynthesizedTask("1", "d:1", None, "en", "p", program, program, tests)


def check(folder: Path, *pairs: tuple[str, str], checks: CheckSettings = CHECKS) -> list[CheckOutcome]:
    cache = JsonLinesCache(folder / "outcomes.jsonl")
    found = check_programs([task(*pair) for pair in pairs], checks, open_small, cache, timeout_s=1.5)
    return [outcome for _, outcome in found]


DROPPED = {
    "an answer that is wrong": (GOOD[0].replace("<", ">"), GOOD[1], "tests-fail", "AssertionError"),
    "tests that fail by themselves": (GOOD[0], f"{GOOD[1]}\nassert missing", "tests-fail", "NameError"),
    "tests that always pass": (GOOD[0], "clip(1)\nassert True\nassert 1", "vacuous-tests", None),
    "tests that catch everything": (
        GOOD[0], "try:\n    assert clip(-1) == 5\nexcept BaseException:\n    pass", "vacuous-tests", None,
    ),
    "tests that leave before they test": (GOOD[0], "import os\nclip(1)\nos._exit(0)", "tests-fail", None),
    "tests that see few faults": (
        ("def grade(x):\n    if x > 90:\n        return 'a'\n    if x > 80:\n        return 'b'\n    if x > 70:\n"
        "        return 'c'\n    if x > 60:\n        return 'd'\n    if x > 50:\n        return 'e'\n    return 'f'"),
        "assert grade(95) == 'a'\nassert grade(96) == 'a'", "weak-tests", None,
    ),
    "an answer that leaves early": ("import os\ndef clip(x): return x\nos._exit(0)", GOOD[1], "tests-fail", None),
    "an answer that exits": ("def clip(x):\n    raise SystemExit(0)", GOOD[1], "tests-fail", None),
    "an answer that reads its tests": (
        ("import inspect, sys\ndef clip(x):\n    frame = sys._getframe()\n    while frame.f_back:\n"
        "        frame = frame.f_back\n    source = str(frame.f_globals) + str(frame.f_code.co_consts)\n"
        "    return 3 if 'clip(3)' in source else 7"), GOOD[1], "tests-fail", "AssertionError",
    ),
    "a slow answer": (f"import time\ntime.sleep(1.1)\n{GOOD[0]}", GOOD[1], "too-slow", None),
    "an answer that equals everything": (
        "class Same:\n    def __eq__(self, other):\n        return True\ndef clip(x):\n    return Same()",
        GOOD[1], "tests-fail", None,
    ),
}  # fmt: skip


def test_each_fault_of_answers_and_tests_has_its_reason(tmp_path: Path) -> None:
    outcomes = check(tmp_path, GOOD, *(case[:2] for case in DROPPED.values()))

    assert outcomes[0].reason is None
    for name, outcome in zip(DROPPED, outcomes[1:], strict=True):
        _, _, reason, detail = DROPPED[name]
        assert outcome.reason == reason, (name, outcome)
        assert detail is None or outcome.detail == detail, name
        if reason == "too-slow":
            assert outcome.value is not None
            assert outcome.value > 1.0 == outcome.threshold


@pytest.mark.slow
def test_hostile_programs_end_within_their_limits(tmp_path: Path) -> None:
    """A loop without an end, a bomb of processes, one of memory, and output without an end."""
    ones = [
        ("def clip(x):\n    while True:\n        pass", "too-slow"),
        ("import os\ndef clip(x):\n    while True:\n        os.fork()", None),
        ("def clip(x):\n    y = [0]\n    while True:\n        y += y", None),
        ("def clip(x):\n    while True:\n        print('x' * 1000)", "too-slow"),
    ]

    outcomes = check(tmp_path, *((program, GOOD[1]) for program, _ in ones), GOOD)

    for (program, reason), outcome in zip(ones, outcomes, strict=False):
        assert outcome.reason in ((reason,) if reason else ("tests-fail", "too-slow")), program
    assert outcomes[-1].reason is None, "the sandbox works after them"


@pytest.mark.slow
def test_an_answer_that_depends_on_the_hash_seed_is_found(tmp_path: Path) -> None:
    """All programs of one sandbox have one hash seed. It passes by chance at most once in 2 ** 14 runs."""
    by_hash = "def bit(n):\n    return hash('a' * n) % 2"
    tests = "assert bit(1) in (0, 1)\nassert bit(1) == 0"

    [outcome] = check(tmp_path, (by_hash, tests), checks=CHECKS.model_copy(update={"repeats": 14}))

    assert outcome.reason in ("tests-fail", "nondeterministic")


def test_an_answer_that_passes_once_and_fails_later_is_nondeterministic() -> None:
    failed = Verdict("failed", "AssertionError", 0.1, "")

    assert judge_run(failed, CHECKS, is_first=False) == CheckOutcome("nondeterministic", detail="AssertionError")
    assert judge_run(failed, CHECKS, is_first=True) == CheckOutcome("tests-fail", detail="AssertionError")
    late = judge_run(Verdict("timed out", "", 1.5, ""), CHECKS, is_first=False)
    assert late is not None
    assert late.reason == "nondeterministic"
    assert judge_run(Verdict("passed", "", 0.9, ""), CHECKS, is_first=True) is None


def test_the_share_of_faults_found_is_counted_by_hand(sandbox: Sandbox) -> None:
    """Of `x < 0` and its two zeros: <= changes nothing, one fault of the two constants and the swapped branches do."""
    [outcome] = try_mutants([task(*GOOD)], CHECKS.model_copy(update={"min_killed": 0.6}), sandbox)

    faults = {
        "return 0 if x <= 0 else x": True, "return 1 if x < 0 else x": False, "return 0 if x < 1 else x": True,
        "return 0 if not x < 0 else x": False,
    }  # fmt: skip
    passes = {
        line: eval(f"[({line[7:]}) for x in (-1, 0, 3)] == [0, 0, 3]")  # noqa: S307 - ours
        for line in faults
    }
    assert passes == faults
    assert (outcome.mutants, outcome.killed) == (4, 2)
    assert outcome.reason == "weak-tests"
    assert (outcome.value, outcome.threshold) == (0.5, 0.6)


def test_an_answer_without_faults_only_needs_tests_that_see_an_empty_body(sandbox: Sandbox) -> None:
    plain = "def same(x):\n    return x"

    good, bad = try_mutants(
        [task(plain, "assert same(1) == 1"), task(plain, "assert same(None) is None")], CHECKS, sandbox
    )

    assert (good.reason, good.mutants) == (None, 0)
    assert bad.reason == "vacuous-tests"


def test_methods_lose_their_bodies_too() -> None:
    source = "class A:\n    def f(self):\n        return 1\n\nasync def g():\n    return 2"

    assert empty_bodies(source) == "class A:\n\n    def f(self):\n        pass\n\nasync def g():\n    pass"


def test_every_repetition_has_a_sandbox_of_its_own_and_outcomes_are_kept(tmp_path: Path) -> None:
    opened: list[Sandbox] = []

    def open_one() -> Sandbox:
        opened.append(open_small())
        return opened[-1]

    tasks = [task(*GOOD), task(GOOD[0], "assert clip(1) == 2\nassert clip(2)")]
    cache = JsonLinesCache(tmp_path / "outcomes.jsonl")
    first = [outcome for _, outcome in check_programs(tasks, CHECKS, open_one, cache, timeout_s=1.5)]
    assert [outcome.reason for outcome in first] == [None, "tests-fail"]
    assert len({id(one) for one in opened}) == 3, "two repetitions, and the mutants"

    def refuse() -> Sandbox:
        raise AssertionError("nothing is left to run")

    cache = JsonLinesCache(tmp_path / "outcomes.jsonl")
    again = [outcome for _, outcome in check_programs(tasks, CHECKS, refuse, cache, timeout_s=1.5)]
    assert again == first
    with pytest.raises(AssertionError, match="nothing is left"):
        list(check_programs(tasks, CHECKS, refuse, cache, timeout_s=9.0))
