"""Protocols: prompts, stops, shots, and which of their parts are frozen."""

import json
from dataclasses import replace

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES, find_profile
from tests.evaluate.sets import ROOT, SHARED, SMALL, requires_shared


@requires_shared
@pytest.mark.parametrize(
    ("profile", "path", "count"),
    [
        ("humaneval-released-v1", "humaneval/HumanEval.jsonl.gz", 164),
        ("mbpp-released-0shot-v1", "mbpp/mbpp.jsonl", 500),
        ("mbpp-austin-3shot-v1", "mbpp/mbpp.jsonl", 500),
        ("multipl-e-released-v1", "multipl_e", 1753),
        ("infilling-santacoder-v1", "fim_santacoder/train.parquet", 4792),
        ("infilling-humaneval-v1", "humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz", 1033),
    ],
)
def test_published_data_are_read_whole(profile: str, path: str, count: int) -> None:
    found = find_profile(profile)

    problems, shown = found.choose(read_problems(SHARED / path, found.read))

    assert len(problems) == count
    assert len(shown) == (3 if "3shot" in profile else 0)


def test_prompts_and_cuts_are_those_of_the_released_protocol() -> None:
    profile = PROFILES["humaneval-released-v1"]
    problem = Problem("a", "py", '\ndef f(x):\n    """Doc."""\n', None, "    return x\n", "check(f)", "f")
    written = "\n    return x + 1\n\n\ndef g():\n    pass\nclass A:"

    prompt = profile.make_prompt(problem, ())

    assert prompt.text == 'def f(x):\n    """Doc."""'
    assert profile.cut(problem, written) == "\n    return x + 1\n\n"
    assert profile.program is not None
    assert profile.program(problem, profile.cut(problem, written))[0].startswith(prompt.text + "\n    return x + 1")
    assert (profile.temperature, profile.top_p, profile.samples, profile.max_tokens) == (0.2, 0.95, 40, 2048)
    mbpp = Problem("11", "py", "t", None, "c", "", "f", (), {"text": "Do.", "test_list": ["assert f(1)"], "code": "c"})
    assert PROFILES["mbpp-released-0shot-v1"].make_prompt(mbpp, ()).text == '"""\nDo.\nassert f(1)\n"""\n'


def test_stops_of_the_data_cut_as_well_and_the_earliest_wins() -> None:
    profile = PROFILES["multipl-e-released-v1"]
    problem = Problem("a", "js", "p", stops=("\n//", "\nfunction "))

    assert profile.cut(problem, "x\nfunction b\n// c") == "x"
    assert profile.cut(problem, "x") == "x"


def test_worked_examples_stand_before_and_are_not_asked() -> None:
    profile = PROFILES["mbpp-austin-3shot-v1"]
    problems, shown = profile.choose(read_problems(SMALL / "mbpp.jsonl", profile.read))

    text = profile.make_prompt(problems[0], shown).text

    assert [problem.notes["number"] for problem in shown] == [2, 3, 4]
    assert text.count("[BEGIN]") == 4
    assert text.count("[DONE]") == 3
    assert text.endswith("[BEGIN]\n")
    every, shots = replace(profile, numbers=None).choose(read_problems(SMALL / "mbpp.jsonl", profile.read))
    assert not {problem.key for problem in every} & {problem.key for problem in shots}
    with pytest.raises(SettingsError, match="the data lack 2"):
        profile.choose(problems)


def test_profiles_are_frozen_as_they_were_published_here() -> None:
    """Who changes a protocol gives it another version; this list is what results in the world were made with."""
    described = {name: profile.describe() for name, profile in PROFILES.items()}
    frozen = json.loads((ROOT / "tests" / "data" / "profiles.json").read_text())

    assert json.loads(json.dumps(described)) == frozen


def test_unknown_profiles_are_told_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean humaneval-greedy-v1"):
        find_profile("humaneval-greedy")
    with pytest.raises(SettingsError, match="use one of humaneval-released-v1"):
        find_profile("zzz")
