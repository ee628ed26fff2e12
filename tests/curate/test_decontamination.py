"""Documents that contain a benchmark's texts are found."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.decontamination import FIELDS, Decontaminator, read_benchmark
from codeshell_hf.curate.settings import Benchmark
from codeshell_hf.errors import DataError
from codeshell_hf.text.word_hashes import hash_text, roll
from tests.curate.toy_corpus import GOOD, run, write_files

SHARED = Path(__file__).parents[3] / "shared" / "benchmarks"


PROMPT = "from typing import List\n\ndef has_close(numbers: List[float], threshold: float) -> bool:\n"


STORY = "Weng earns twelve dollars an hour for babysitting and yesterday she did just fifty minutes of it"


BENCHMARKS = {"code": (PROMPT,), "sums": (STORY, "return sorted by the second key"), "x": ("too short",)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"import os\n{PROMPT}    return True\n", "code"),
        ("DEF HAS_CLOSE(NUMBERS: LIST[FLOAT], THRESHOLD: FLOAT) -> BOOL:\nfrom typing", None),
        (PROMPT.upper(), "code"),
        ("# " + STORY.replace(" ", "  ").replace("hour", "hour,"), "sums"),
        ("# Weng earns twelve dollars an hour for baking", None),
        ("lines = [return sorted(by.the_second_key)]", None),
        ("we return sorted by the second key here", "sums"),
        ("too short", None),
        ("", None),
    ],
)  # fmt: skip
def test_texts_of_benchmarks_are_found_whatever_case_and_marks(text: str, name: str | None) -> None:
    assert Decontaminator(BENCHMARKS).find(text.encode()) == name


def test_more_hits_can_be_asked_for() -> None:
    part = " ".join(STORY.split()[:11]).encode()

    assert Decontaminator(BENCHMARKS, min_hits=2).find(part) == "sums"
    assert Decontaminator(BENCHMARKS, min_hits=3).find(part) is None


def test_rolled_hashes_are_those_of_a_plain_loop() -> None:
    words = ["a", "b", "c", "d", "e", "f", "g", "a", "b", "c", "d"]
    rolled = roll(hash_text(" ".join(words).encode()), 4).tolist()

    plain = [tuple(words[place : place + 4]) for place in range(len(words) - 3)]
    assert len(rolled) == len(plain)
    assert [rolled.index(value) for value in rolled] == [plain.index(found) for found in plain]


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


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmarks beside a development checkout")
def test_every_problem_of_the_published_benchmarks_is_found() -> None:
    for name in ("humaneval", "mbpp", "gsm8k", "multipl_e", "mmlu"):
        texts = read_benchmark(Benchmark(name=name, path=SHARED / name))
        find = Decontaminator({name: texts}).find
        long = [text for text in texts if len(hash_text(text.encode())) >= 6]
        assert len(long) > 100, name
        assert all(find(f"def other():\n    pass\n\n{text}\n".encode()) == name for text in long[:2000])


def test_contaminated_documents_fall_under_their_benchmark(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": PROMPT}) + "\n")
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "leak.py": f"{PROMPT}    return False\n"})
    benchmarks = [{"name": "code", "path": tmp_path / "b.jsonl", "fields": ()}]

    outcome = run(folder, tmp_path / "out", near_duplicates=None, benchmarks=benchmarks)

    assert dict(outcome.funnel.reasons()) == {"contaminated": 1}
    assert outcome.measures["benchmarks"] == {"code": 1}
