"""Documents that contain a benchmark's texts are found, and others are not."""

import dataclasses
import gzip
import json
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.benchmark_tasks import FIELDS, BenchmarkTask, make_task, read_benchmark, read_tasks
from codeshell_hf.curate.decontamination import Decontaminator, Structure
from codeshell_hf.curate.settings import Benchmark
from codeshell_hf.errors import DataError
from codeshell_hf.text.word_hashes import hash_text, roll
from tests.curate.leaks import HARDER, KEEPING_TOKENS, Leak, describe, hide, measure_recall, rename
from tests.curate.toy_corpus import GOOD, run, write_files

SHARED = Path(__file__).parents[3] / "shared" / "benchmarks"
TASKS = Path(__file__).parents[1] / "data" / "decontamination" / "tasks.jsonl"
PROMPT = "from typing import List\n\ndef has_close(numbers: List[float], threshold: float) -> bool:\n"
STORY = "Weng earns twelve dollars an hour for babysitting and yesterday she did just fifty minutes of it"
BENCHMARKS = {
    "code": (BenchmarkTask((PROMPT,)),),
    "sums": (BenchmarkTask((STORY, "return sorted by the second key")),),
    "x": (BenchmarkTask(("too short", "a b c d e f", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")),),
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"import os\n{PROMPT}    return True\n", "code"),
        (PROMPT.upper(), "code"),
        ("# " + STORY.replace(" ", "  ").replace("hour", "hour,"), "sums"),
        ("# Weng earns twelve dollars an hour for baking", None),
        ("lines = [return sorted(by.the_second_key)]", None),
        ("we return sorted by the second key here", "sums"),
        ("too short", None),
        ("a, b, c, d, e, f = x", None),
        ("table = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]", None),
        ("", None),
    ],
)  # fmt: skip
def test_texts_of_benchmarks_are_found_whatever_case_and_marks(text: str, name: str | None) -> None:
    found = Decontaminator(BENCHMARKS).find(text.encode())

    assert (found.benchmark if found else None) == name


def test_a_share_of_a_text_is_needed_and_a_number_of_sequences() -> None:
    """The story's 17 words are 12 sequences of six; eleven of its words are six of them."""
    part = " ".join(STORY.split()[:11]).encode()

    assert Decontaminator(BENCHMARKS, min_overlap=0.5).find(part) is not None
    assert Decontaminator(BENCHMARKS, min_overlap=0.6).find(part) is None
    assert Decontaminator(BENCHMARKS, min_overlap=0.4, min_hits=7).find(part) is None


def test_overlap_is_counted_for_each_task_alone() -> None:
    """Two tasks give four of nine sequences each: together as many as one whole task."""
    words = [f"{'abcdefgh'[place % 8]}word{place}" for place in range(28)]
    tasks = [BenchmarkTask((" ".join(words[:14]),)), BenchmarkTask((" ".join(words[14:]),))]
    both = " ".join((*words[:9], "other", *words[14:23])).encode()

    assert Decontaminator({"two": tasks}).find(both) is None
    found = Decontaminator({"two": tasks}).find(" ".join(words[14:]).encode())
    assert found is not None
    assert (found.task, found.overlap) == (1, 1.0)


def test_what_all_tasks_of_a_benchmark_share_is_no_evidence() -> None:
    form = "Write a function that takes the arguments below and returns the result that the tests expect"
    tasks = [BenchmarkTask((f"{form} of kind{place}x",)) for place in range(40)]

    assert Decontaminator({"form": tasks}).find(form.encode()) is None


def test_a_solution_of_few_words_is_found_with_its_head() -> None:
    row = {
        "prompt": 'def median_of_middle(values):\n    """Gives it."""\n',
        "canonical_solution": "    return values[1]\n",
    }
    find = Decontaminator({"code": [make_task(row)]}).find

    assert find(b"def median_of_middle(values):\n    return values[1]\n") is not None
    assert find(b"def first(values):\n    return values[1]\n") is None


def test_names_do_not_matter_in_structures_but_which_are_equal_does() -> None:
    one = b"def total(things):\n    sums = 0\n    for thing in things:\n        sums += thing\n    return sums + 2\n"
    other = one.replace(b"sums", b"zz").replace(b"things", b"bag").replace(b"total", b"f").replace(b"thing", b"q")
    mixed = one.replace(b"sums += thing", b"thing += sums")

    hashes = [Structure([text]).hash_sequences() for text in (one, other, mixed)]

    assert len(hashes[0]) == 1
    assert (hashes[0] == hashes[1]).all()
    assert (hashes[0] != hashes[2]).any()
    assert (Structure([one]).hash_shapes() == Structure([mixed]).hash_shapes()).all()
    commented = one.replace(b"\n    for", b"  # starts here\n    for")
    assert (Structure([commented]).hash_sequences() == hashes[0]).all()


def test_many_documents_at_once_are_judged_as_each_alone() -> None:
    """Also where a benchmark's text is cut between two documents, and in blocks that are full or of one document."""
    rows = [json.loads(line) for line in TASKS.read_text(encoding="utf-8").split("\n") if line]
    tasks = {"made": [make_task(row) for row in rows], **BENCHMARKS}
    words = f"# {STORY}".split(" ")
    texts = [
        *(f"x = {place}\n{row['prompt']}{row['canonical_solution']}" for place, row in enumerate(rows[:20])),
        *(rename(describe(row["prompt"] + row["canonical_solution"], None)) for row in rows[:20]),
        *("def other(value):\n    return value\n" * count for count in (0, 1, 20_000)),
        *(" ".join(words[:8]), " ".join(words[8:])),
        *(" ".join(words[:17]), " ".join(words)),
    ]
    documents = [text.encode() for text in texts]
    languages = ["python", "c", None] * len(documents)
    decontaminator = Decontaminator(tasks)

    together = decontaminator.find_all(documents, languages[: len(documents)])

    alone = [decontaminator.find(document, language) for document, language in zip(documents, languages, strict=False)]
    assert together == alone
    assert decontaminator.find(f"{texts[-4]} {texts[-3]}".encode()) is not None, "cut in two, and whole"
    assert alone[-4:-2] == [None, None]
    assert any(found is not None and found.is_renamed for found in alone)
    assert None in alone[:-4]


def test_rolled_hashes_are_those_of_a_plain_loop() -> None:
    words = ["a", "b", "c", "d", "e", "f", "g", "a", "b", "c", "d"]
    rolled = roll(hash_text(" ".join(words).encode()), 4).tolist()

    plain = [tuple(words[place : place + 4]) for place in range(len(words) - 3)]
    assert len(rolled) == len(plain)
    assert [rolled.index(value) for value in rolled] == [plain.index(found) for found in plain]


def read_leaks() -> list[Leak]:
    rows = [json.loads(line) for line in TASKS.read_text(encoding="utf-8").split("\n") if line]
    return [Leak(row["prompt"], row["canonical_solution"], row["test"]) for row in rows]


def list_real_code(count: int) -> list[Path]:
    """Files of the standard library and of installed packages, evenly over all."""
    paths = [sysconfig.get_path("stdlib"), *(str(Path(module.__file__ or "").parent) for module in (np, pa, pytest))]
    files = sorted({file for path in paths for file in Path(path).rglob("*.py") if 500 < file.stat().st_size < 60_000})
    return files[:: max(len(files) // count, 1)]


def test_labelled_leaks_are_found_and_real_code_is_not() -> None:
    """Every way of `KEEPING_TOKENS` for every task, and as many files of other packages."""
    leaks = read_leaks()
    tasks = read_tasks(Benchmark(name="own", path=TASKS))
    find = Decontaminator({"own": tasks}).find
    real = [file.read_bytes() for file in list_real_code(len(leaks) * len(KEEPING_TOKENS))]

    found = {name: measure_recall(find, leaks, change)[0] for name, change in KEEPING_TOKENS.items()}
    wrong = sum(find(text) is not None for text in real)

    right = sum(found.values()) * len(leaks)
    assert len(leaks) >= 24
    assert len(real) >= 300
    assert right / (right + wrong) >= 0.95
    assert sum(found.values()) / len(found) >= 0.95
    assert min(found.values()) >= 0.9, found


def test_harder_leaks_are_found_as_often_as_the_page_says() -> None:
    leaks = read_leaks()
    find = Decontaminator({"own": read_tasks(Benchmark(name="own", path=TASKS))}).find

    found = {name: measure_recall(find, leaks, change)[0] for name, change in HARDER.items()}

    assert found["docstring translated"] >= 0.85
    assert found["docstring paraphrased"] >= 0.85
    assert found["lines swapped"] >= 0.6
    assert found["renamed, docstring kept"] >= 0.9
    assert found["renamed, docstring gone"] >= 0.5


def test_python_is_compared_by_structure_with_python_alone() -> None:
    leak = read_leaks()[0]
    find = Decontaminator({"own": read_tasks(Benchmark(name="own", path=TASKS))}).find
    text = hide(rename(describe(leak.program, None)))

    found = find(text, "python")
    assert found is not None
    assert found.is_renamed
    assert find(text, "java") is None
    assert find(text) == found


def read(path: Path, *fields: str) -> tuple[str, ...]:
    return read_benchmark(Benchmark(name="b", path=path, fields=fields))


def test_benchmarks_are_read_in_every_form(tmp_path: Path) -> None:
    rows = [{"prompt": PROMPT, "other": "no"}, {"messages": [{"role": "user", "content": STORY}]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.txt").write_text(f"{PROMPT.strip()}\n\n{STORY}\n")
    pq.write_table(pa.table({"prompt": [PROMPT], "suffix": [STORY]}), tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text(f'"{STORY}",one,two,three,four,A\n')

    for name in ("a.jsonl", "b.jsonl.gz", "d.parquet"):
        assert read(tmp_path / name) == (PROMPT, STORY)
    assert len(read(tmp_path / "c.txt")) == 3
    assert read(tmp_path / "e.csv") == (f"{STORY} one two three four",)
    assert set(read(tmp_path)) >= {PROMPT, STORY}
    assert read(tmp_path / "a.jsonl", "other") == ("no",)
    with pytest.raises(DataError, match=r"has none of the fields nothing; set fields"):
        read(tmp_path / "a.jsonl", "nothing")
    with pytest.raises(DataError, match=r"benchmark b at .* cannot be read"):
        read(tmp_path / "none.jsonl")
    assert "canonical_solution" in FIELDS


def test_lists_of_tests_are_one_text_and_code_is_joined_with_its_head() -> None:
    mbpp = make_task(
        {"text": "Add.", "code": "def add(a, b):\n    return a + b", "test_list": ["assert add(1, 2) == 3", "assert 1"]}
    )
    human = make_task(
        {"prompt": 'def f(x):\n    """Doc."""\n', "canonical_solution": "    return x\n", "test": "check(f)"}
    )

    assert mbpp.texts == ("Add.", "def add(a, b):\n    return a + b", "assert add(1, 2) == 3\nassert 1")
    assert human.code == ("def f(x):\n     \n\n    return x\n",)
    assert dataclasses.replace(human, code=()).texts[-1] == human.code[0]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmarks beside a development checkout")
def test_every_problem_of_the_published_benchmarks_is_found() -> None:
    for name in ("humaneval", "mbpp", "gsm8k", "multipl_e", "mmlu"):
        tasks = read_tasks(Benchmark(name=name, path=SHARED / name))[:2000]
        find = Decontaminator({name: tasks}).find
        long = [text for task in tasks for text in task.texts if len(hash_text(text.encode())) >= 12]
        assert len(long) > 100, name
        missed = [text for text in long if find(f"def other():\n    pass\n\n{text}\n".encode()) is None]
        assert len(missed) <= 0.03 * len(long), missed[:10]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmarks beside a development checkout")
def test_leaks_of_human_eval_are_found_and_real_code_is_not() -> None:
    path = SHARED / "humaneval" / "HumanEval.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]
    leaks = [Leak(row["prompt"], row["canonical_solution"], row["test"]) for row in rows]
    find = Decontaminator({"humaneval": read_tasks(Benchmark(name="humaneval", path=path))}).find

    found = {name: measure_recall(find, leaks, change)[0] for name, change in KEEPING_TOKENS.items()}
    wrong = [file for file in list_real_code(2000) if find(file.read_bytes(), "python") is not None]

    assert min(found.values()) >= 0.95, found
    assert measure_recall(find, leaks, HARDER["docstring paraphrased"])[0] >= 0.85
    assert measure_recall(find, leaks, HARDER["renamed, docstring gone"])[0] >= 0.55
    assert len(wrong) <= 2, wrong


def test_contaminated_documents_fall_under_their_benchmark(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": PROMPT}) + "\n")
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "leak.py": f"{PROMPT}    return False\n"})
    benchmarks = [{"name": "code", "path": tmp_path / "b.jsonl", "fields": ()}]

    outcome = run(folder, tmp_path / "out", near_duplicates=None, benchmarks=benchmarks)

    assert dict(outcome.funnel.reasons()) == {"contaminated": 1}
    assert outcome.measures["benchmarks"] == {"code": 1}
