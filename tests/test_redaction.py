"""What belongs to somebody is replaced, what looks like it stays; what is a benchmark's is found."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.decontamination import FIELDS, Benchmark, Decontaminator, hash_text, read_benchmark, roll
from codeshell_hf.curate.redaction import redact
from codeshell_hf.errors import DataError
from codeshell_hf.text.documents import read_documents
from tests.curation import GOOD, run, write_files

SHARED = Path(__file__).parents[2] / "shared" / "benchmarks"
REPLACED = {
    "write to ann.lee+x@corp-mail.co.uk now": "write to <EMAIL> now",
    "host = '8.8.4.4'  # dns": "host = '<IP_ADDRESS>'  # dns",
    "addr = 2606:4700:4700::1111": "addr = <IP_ADDRESS>",
    "token = 'ghp_" + "a1B2" * 9 + "'": "token = '<KEY>'",
    "AWS = 'AKIA" + "ABCDEFGHIJKLMNOP'": "AWS = '<KEY>'",
    'db_password = "hunter2-really"': 'db_password = "<PASSWORD>"',
    "{'apiKey': 'Zx81-kk29-Qw77'}": "{'apiKey': '<PASSWORD>'}",
    "a\n-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nb": "a\n<KEY>\nb",
    "hf = 'hf_" + "aBcD" * 9 + "'": "hf = '<KEY>'",
}
KEPT = (
    "me@example.com",
    "@app.route('/x')",
    "icon@2x.png",
    "127.0.0.1 and 192.168.0.1 and 0.0.0.0 and 10.1.2.3",
    "version = '1.2.3.4'",
    "999.1.1.1",
    "password = get_password()",
    "password = 'your_password'",
    'secret = "${SECRET}"',
    "def f(password: str = 'changeme'): ...",
    "std::vector<int>::iterator x::y::z",
    "d41d8cd98f00b204e9800998ecf8427e",
    "key = 'some_setting_name'",
    "00:11:22:33:44:55",
)


@pytest.mark.parametrize("text", REPLACED)
def test_what_belongs_to_somebody_is_replaced(text: str) -> None:
    found = redact(f"x = 1\n{text}\ny = 2\n")

    assert found.text == f"x = 1\n{REPLACED[text]}\ny = 2\n"
    assert sum(found.counts.values()) == 1


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(f"{text}\n").text == f"{text}\n"


def test_redacting_again_changes_nothing_and_no_placeholder_is_made_of_placeholders() -> None:
    once = redact("\n".join(REPLACED)).text

    again = redact(once)

    assert again.text == once
    assert not again.counts


def test_documents_are_written_redacted_and_counted(tmp_path: Path) -> None:
    folder = write_files(
        tmp_path / "in", {"a.py": GOOD + "# by ann@corp.io, bob@corp.io\n", "b.py": "address_of_server = '8.8.8.8'\n"}
    )

    outcome = run(folder, tmp_path / "out", near=None, redacts=True)

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert texts["source/a.py"].endswith("# by <EMAIL>, <EMAIL>\n")
    assert outcome.placeholders == {"<EMAIL>": 2, "<IP_ADDRESS>": 1}


PROMPT = "from typing import List\n\ndef has_close(numbers: List[float], threshold: float) -> bool:\n"
STORY = "Weng earns twelve dollars an hour for babysitting and yesterday she did just fifty minutes of it"
BENCHMARKS = [
    Benchmark("code", (PROMPT,)),
    Benchmark("sums", (STORY, "return sorted by the second key")),
    Benchmark("x", ("too short",)),
]


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


def test_benchmarks_are_read_in_every_form(tmp_path: Path) -> None:
    rows = [{"prompt": PROMPT, "other": "no"}, {"messages": [{"role": "user", "content": STORY}]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.txt").write_text(f"{PROMPT.strip()}\n\n{STORY}\n")
    pq.write_table(pa.table({"prompt": [PROMPT], "suffix": [STORY]}), tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text(f'"{STORY}",one,two,three,four,A\n')

    for name in ("a.jsonl", "b.jsonl.gz", "d.parquet"):
        assert read_benchmark("b", tmp_path / name).texts == (PROMPT, STORY)
    assert len(read_benchmark("b", tmp_path / "c.txt").texts) == 3
    assert read_benchmark("b", tmp_path / "e.csv").texts == (f"{STORY} one two three four",)
    assert set(read_benchmark("b", tmp_path).texts) >= {PROMPT, STORY}
    assert read_benchmark("b", tmp_path / "a.jsonl", ["other"]).texts == ("no",)
    with pytest.raises(DataError, match=r"has none of the fields nothing; set fields"):
        read_benchmark("b", tmp_path / "a.jsonl", ["nothing"])
    with pytest.raises(DataError, match=r"benchmark b at .* cannot be read"):
        read_benchmark("b", tmp_path / "none.jsonl")
    assert "canonical_solution" in FIELDS


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the benchmarks beside a development checkout")
def test_every_problem_of_the_published_benchmarks_is_found() -> None:
    for name in ("humaneval", "mbpp", "gsm8k", "multipl_e", "mmlu"):
        benchmark = read_benchmark(name, SHARED / name)
        find = Decontaminator([benchmark]).find
        long = [text for text in benchmark.texts if len(hash_text(text.encode())) >= 6]
        assert len(long) > 100, name
        assert all(find(f"def other():\n    pass\n\n{text}\n".encode()) == name for text in long[:2000])


def test_contaminated_documents_fall_under_their_benchmark(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": PROMPT}) + "\n")
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "leak.py": f"{PROMPT}    return False\n"})
    benchmarks = [{"name": "code", "path": tmp_path / "b.jsonl", "fields": ()}]

    outcome = run(folder, tmp_path / "out", near=None, benchmarks=benchmarks)

    assert dict(outcome.funnel.reasons()) == {"contaminated": 1}
    assert outcome.measures["benchmarks"] == {"code": 1}
