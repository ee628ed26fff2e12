"""Benchmarks as they are read."""

import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate import problems as reading
from codeshell_hf.evaluate.execution import find_reference_program
from codeshell_hf.evaluate.problems import find_data, read_problems
from recipes.nano.benchmarks import write_all
from tests.evaluate.sets import SMALL
from tests.hub import serve_hub, visit_hub

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


BROKEN = {
    "a missing field": (reading.read_humaneval, '{"task_id": "a", "prompt": "x"}', "has no text 'entry_point'"),
    "another type": (reading.read_mbpp, '{"task_id": "1", "text": "t", "code": "c", "test_list": ["a"]}', "no number"),
    "no stops": (
        reading.read_multipl_e,
        '{"name": "a", "language": "js", "prompt": "p", "tests": "t"}',
        "no list stop_tokens",
    ),
    "no object": (reading.read_openings, "[1]", "line 1 is not an object"),
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
        ("hub:openai/humaneval@abc/test.parquet", "cannot be downloaded"),
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


def test_right_programs_are_put_together_as_their_schema_wants() -> None:
    for name in ("humaneval.jsonl", "mbpp.jsonl", "humaneval-infilling.jsonl"):
        for problem in read_problems(SMALL / name, SETS[name][0]):
            source = find_reference_program(problem)
            assert source is not None
            compile(source, "right", "exec")
            assert f"def {problem.name}" in source
