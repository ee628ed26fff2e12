"""Benchmarks as they are read, posed and cut."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.evaluate import problems as reading
from codeshell_hf.evaluate.execution import find_right_program
from codeshell_hf.evaluate.problems import Problem, find_data, read_problems
from codeshell_hf.evaluate.profiles import PROFILES, find_profile
from codeshell_hf.evaluate.published import EXECUTION, PROTOCOLS, find_published
from recipes.nano.benchmarks import write_all
from tests.hub import serve_hub, visit_hub

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "recipes" / "nano" / "data" / "benchmarks"
SHARED = ROOT.parent / "shared" / "benchmarks"
requires_shared = pytest.mark.skipif(not SHARED.exists(), reason="the published benchmarks are not ours to ship")

SETS = {
    "humaneval.jsonl": (reading.read_humaneval, 8),
    "mbpp.jsonl": (reading.read_mbpp, 11),
    "multipl-e": (reading.read_multipl_e, 88),
    "infilling.jsonl": (reading.read_infilling, 24),
    "humaneval-infilling.jsonl": (reading.read_humaneval_infilling, 8),
    "lines.jsonl": (reading.read_completion, 24),
    "blocks.jsonl": (reading.read_completion, 24),
    "openings.jsonl": (reading.read_openings, 10),
    "requests.jsonl": (reading.read_requests, 128),
}


@pytest.mark.parametrize("name", SETS)
def test_small_sets_are_read_in_each_schema(name: str) -> None:
    read, count = SETS[name]

    assert len(read_problems(SMALL / name, read)) == count


def test_small_sets_are_what_their_writer_writes(tmp_path: Path) -> None:
    write_all(tmp_path)

    for path in tmp_path.rglob("*.jsonl"):
        assert path.read_bytes() == (SMALL / path.relative_to(tmp_path)).read_bytes(), path.name


def test_at_least_fifty_harmful_requests_in_each_language() -> None:
    requests = read_problems(SMALL / "requests.jsonl", reading.read_requests)

    for language in ("en", "zh"):
        own = {problem.prompt for problem in requests if problem.language == language}
        harmful = [p for p in requests if p.language == language and p.notes["kind"] == "harmful"]
        assert len(harmful) >= 50
        assert len(own) == len([p for p in requests if p.language == language])


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


BROKEN = {
    "a missing field": (reading.read_humaneval, '{"task_id": "a", "prompt": "x"}', "has no text 'entry_point'"),
    "another type": (reading.read_mbpp, '{"task_id": "1", "text": "t", "code": "c", "test_list": ["a"]}', "no number"),
    "no stops": (
        reading.read_multipl_e,
        '{"name": "a", "language": "js", "prompt": "p", "tests": "t"}',
        "no list stop_tokens",
    ),
    "no object": (reading.read_openings, "[1]", "line 1 is no object"),
    "no JSON": (reading.read_openings, "{", "cannot be read"),
    "nothing": (reading.read_openings, "", "holds no problems"),
    "twice": (reading.read_openings, '{"id": "a", "language": "py", "prompt": "p"}\n' * 2, "holds a twice"),
    "another kind": (
        reading.read_requests,
        '{"id": "a", "language": "en", "prompt": "p", "kind": "bad"}',
        "use 'harmful' or 'harmless'",
    ),
    "no turns": (reading.read_instructions, '{"messages": [], "tests": "x"}', "no messages of two turns"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_their_line(tmp_path: Path, name: str) -> None:
    read, text, message = BROKEN[name]
    path = tmp_path / "data.jsonl"
    path.write_text(text)

    with pytest.raises(DataError, match=message):
        read_problems(path, read)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.jsonl", "does not exist"),
        ("hub:openai/humaneval/test.parquet", "has no revision or file"),
        ("hub:openai@main/x", "has no revision or file"),
        ("hub:openai/humaneval@abc/test.parquet", "cannot be fetched"),
    ],
)
def test_data_that_is_nowhere_is_said(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_data(name)


def test_data_come_from_the_hub_at_a_revision(tmp_path: Path) -> None:
    text = (SMALL / "humaneval.jsonl").read_bytes()
    script = (
        "import sys\nfrom codeshell_hf.evaluate.problems import *\n"
        "print(len(read_problems(find_data(sys.argv[1]), read_humaneval)))"
    )
    with serve_hub() as (hub, address):
        hub.add("datasets/owner/benchmarks", {"humaneval.jsonl": text})
        commit = hub.stores["datasets/owner/benchmarks"].commit_id("main")
        done = subprocess.run(
            [sys.executable, "-c", script, f"hub:owner/benchmarks@{commit}/humaneval.jsonl"],
            env=visit_hub(address, tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.stdout.strip() == "8", done.stderr[-2000:]


def test_prompts_and_cuts_are_those_of_the_released_protocol() -> None:
    profile = PROFILES["humaneval-released-v1"]
    problem = Problem("a", "py", '\ndef f(x):\n    """Doc."""\n', None, "    return x\n", "check(f)", "f")
    written = "\n    return x + 1\n\n\ndef g():\n    pass\nclass A:"

    prompt = profile.pose(problem, ())

    assert prompt.text == 'def f(x):\n    """Doc."""'
    assert profile.cut(problem, written) == "\n    return x + 1\n\n"
    assert profile.program is not None
    assert profile.program(problem, profile.cut(problem, written))[0].startswith(prompt.text + "\n    return x + 1")
    assert (profile.temperature, profile.top_p, profile.samples, profile.max_tokens) == (0.2, 0.95, 40, 2048)
    mbpp = Problem("11", "py", "t", None, "c", "", "f", (), {"text": "Do.", "test_list": ["assert f(1)"], "code": "c"})
    assert PROFILES["mbpp-released-0shot-v1"].pose(mbpp, ()).text == '"""\nDo.\nassert f(1)\n"""\n'


def test_stops_of_the_data_cut_as_well_and_the_earliest_wins() -> None:
    profile = PROFILES["multipl-e-released-v1"]
    problem = Problem("a", "js", "p", stops=("\n//", "\nfunction "))

    assert profile.cut(problem, "x\nfunction b\n// c") == "x"
    assert profile.cut(problem, "x") == "x"


def test_worked_examples_stand_before_and_are_not_asked() -> None:
    profile = PROFILES["mbpp-austin-3shot-v1"]
    problems, shown = profile.choose(read_problems(SMALL / "mbpp.jsonl", profile.read))

    text = profile.pose(problems[0], shown).text

    assert [problem.notes["number"] for problem in shown] == [2, 3, 4]
    assert text.count("[BEGIN]") == 4
    assert text.count("[DONE]") == 3
    assert text.endswith("[BEGIN]\n")
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


def test_published_figures_stand_only_beside_the_same_protocol_and_data() -> None:
    assert find_published("humaneval-released-v1", "py", 164) == 34.32
    assert find_published("humaneval-released-v1", "py", 8) is None
    assert find_published("humaneval-greedy-v1", "py", 164) is None
    assert find_published("infilling-santacoder-v1", "java", 1780) == 76.9
    assert {task for task, _ in EXECUTION} == {task for task, _ in PROTOCOLS.values()}
    assert len([1 for task, _ in EXECUTION if task == "multipl-e"]) == 11


def test_right_programs_are_put_together_as_their_schema_wants() -> None:
    for name in ("humaneval.jsonl", "mbpp.jsonl", "humaneval-infilling.jsonl"):
        for problem in read_problems(SMALL / name, SETS[name][0]):
            source = find_right_program(problem)
            assert source is not None
            compile(source, "right", "exec")
            assert f"def {problem.name}" in source
