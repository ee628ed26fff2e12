"""Hashes of inputs and values, and files that are whole or absent."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codeshell_hf import manifest
from codeshell_hf.errors import DataError
from codeshell_hf.manifest import (
    FILE_NAME,
    Manifest,
    hash_bytes,
    hash_folder,
    hash_input,
    hash_values,
    read_json_lines,
    read_manifest,
    require_manifest,
    write_text,
)

MANIFEST = Manifest(stage="pack", fingerprint="f", inputs={}, settings={"seed": 0}, code="c", outputs={"a.bin": "1"})


def test_a_hash_sees_where_one_part_ends() -> None:
    assert hash_bytes(b"ab", b"c") != hash_bytes(b"a", b"bc")
    assert hash_bytes(b"abc") != hash_bytes(b"abc", b"")


def test_the_hash_of_values_is_that_of_their_meaning() -> None:
    assert hash_values({"a": 1, "b": {"c": 2, "d": 3}}) == hash_values({"b": {"d": 3, "c": 2}, "a": 1})
    assert hash_values({"a": 1}) != hash_values({"a": 2})
    assert hash_values([1, 2]) != hash_values([2, 1])


def test_a_file_is_hashed_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    # NIST's test vector of SHA-256
    assert hash_input(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_small_folder_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "a" / "deep" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    before = hash_input(tmp_path / "a")

    (file.parent / "__pycache__").mkdir()
    (file.parent / "__pycache__" / "a.pyc").write_bytes(b"0")
    assert hash_input(tmp_path / "a") == before
    os.utime(file, ns=(0, 0))
    assert hash_input(tmp_path / "a") == before
    assert hash_input(shutil.copytree(tmp_path / "a", tmp_path / "b")) == before

    status = file.stat()
    file.write_text("x = 2\n")  # as many bytes at the same time
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hash_input(tmp_path / "a") != before


def test_a_large_folder_is_another_input_when_a_file_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SMALL_FOLDER", 3)
    file = tmp_path / "a.bin"
    file.write_bytes(b"1234")
    os.utime(file, ns=(0, 0))
    before = hash_input(tmp_path)

    os.utime(file, ns=(0, 1))

    assert hash_input(tmp_path) != before


def test_a_stages_folder_is_known_by_what_made_it_and_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.bin").write_bytes(b"1234")
    MANIFEST.write(tmp_path)
    before = hash_input(tmp_path)

    replace(MANIFEST, wall_s=9.0).write(tmp_path)
    assert hash_input(tmp_path) == before
    replace(MANIFEST, fingerprint="g").write(tmp_path)
    assert hash_input(tmp_path) != before

    MANIFEST.write(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"1235")
    assert hash_input(tmp_path) != before, "a file that was exchanged is noticed"

    monkeypatch.setattr(manifest, "SMALL_FOLDER", 3)
    before = hash_input(tmp_path)
    replace(MANIFEST, outputs={"a.bin": "2"}).write(tmp_path)
    assert hash_input(tmp_path) != before


def test_known_hashes_are_not_computed_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abc")

    hashes = hash_folder(tmp_path, known={"b": "known"})

    assert hashes == {"a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "b": "known"}


def test_an_input_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        hash_input(tmp_path / "nowhere")


def test_a_manifest_is_read_as_it_was_written_and_does_not_list_itself(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    MANIFEST.write(tmp_path)

    assert read_manifest(tmp_path) == MANIFEST
    assert list(hash_folder(tmp_path)) == ["a.bin"]
    (tmp_path / FILE_NAME).write_text("{")
    assert read_manifest(tmp_path) is None
    with pytest.raises(DataError, match="no finished output of pack"):
        require_manifest(tmp_path, "pack")


def test_rows_end_with_a_newline_and_with_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"a": "x\u2028y\x85z"}\r\n\n{"a": 2}'.encode())

    assert read_json_lines(path) == [{"a": "x\u2028y\x85z"}, {"a": 2}]
    for data in (b'{"a": 1}\n[2]\n', b'{"a": 1}\n{"a"', b'{"a": 1}\n"\xff"'):
        path.write_bytes(data)
        with pytest.raises(DataError, match="line 2"):
            read_json_lines(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_json_lines(tmp_path / "absent")


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")

    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")

    assert path.read_text() == "old"
