"""The cache on disk: every whole line is kept, whatever cut the last one short."""

import json
import threading
from pathlib import Path

from codeshell_hf.text.cache import JsonLinesCache


def test_rows_survive_a_restart_and_the_last_one_of_a_key_wins(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.jsonl"
    cache = JsonLinesCache(path)
    assert not path.exists()
    cache.add("a", {"value": 1})
    cache.add("b", {"value": "lone \ud800 surrogate"})
    cache.add("a", {"value": 2})

    again = JsonLinesCache(path)

    assert (again.get("a"), again.get("b"), again.get("c")) == ({"value": 2}, {"value": "lone \ud800 surrogate"}, None)
    assert len(again) == 2
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b", "a"]


def test_a_line_cut_anywhere_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    whole = b'{"key": "a", "value": "\xe7\x88\xb1"}\n'
    cut = b'{"key": "b", "value": "\xe7\x88\xb1"}'
    for length in range(1, len(cut) + 1):
        path.write_bytes(whole + cut[:length])
        cache = JsonLinesCache(path)
        cache.add("c", {"value": 3})

        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        expected = ["a", "b", "c"] if length == len(cut) else ["a", "c"]
        assert [row["key"] for row in rows] == expected
        assert cache.get("a") == {"value": "爱"}


def test_a_header_stands_first_whatever_happened(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    JsonLinesCache(path, {"origin": "x"}).add("a", {})
    path.write_bytes(path.read_bytes() + b'{"key": "b"')

    JsonLinesCache(path, {"origin": "x"}).add("b", {})

    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"origin": "x"}, {"key": "a"}, {"key": "b"}]


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    cache = JsonLinesCache(tmp_path / "cache.jsonl")

    def add(thread: int) -> None:
        for number in range(50):
            cache.add(f"{thread}/{number}", {"value": "x" * 500})

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(JsonLinesCache(tmp_path / "cache.jsonl")) == 200
