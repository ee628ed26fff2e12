"""Languages are named by file name, by first line, and as other tables spell them."""

from collections import Counter

import pytest

from codeshell_hf.curate.languages import LANGUAGES, find_language, name_language, name_language_by_shebang

TABLE_1 = (
    "markdown python java javascript php cpp c c-sharp go rust ruby kotlin swift typescript scala lua julia "
    "github-issues html git-commits shell perl css assembly powershell json r sql dart jupyter-scripts "
    "jupyter-structured tex restructuredtext haskell ada yaml common-lisp pascal makefile java-server-pages ocaml "
    "fortran visual-basic mathematica erlang vhdl elixir groovy smalltalk dockerfile"
)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("x.PYI", "python"),
        ("x.hpp", "cpp"),
        ("x.h", "c"),
        ("Makefile", "makefile"),
        ("a/Dockerfile", "dockerfile"),
        ("CMakeLists.txt", "cmake"),
        ("notes.txt", "text"),
        ("x.jl", "julia"),
        ("x.rkt", "racket"),
        ("x.unknown", None),
        ("noextension", None),
    ],
)
def test_languages_are_named_by_file_name(path: str, language: str | None) -> None:
    assert name_language(path) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        (b"#!/usr/bin/env python3\n", "python"),
        (b"#!/bin/bash -e\n", "shell"),
        (b"#! /usr/bin/perl\n", "perl"),
        (b"#!/usr/bin/env -S node\n", "javascript"),
        (b"#!/opt/strange\n", None),
        (b"\x7fELF", None),
    ],
)
def test_scripts_are_named_by_their_first_line(line: bytes, language: str | None) -> None:
    assert name_language_by_shebang(line) == language


def test_all_languages_of_the_reports_table_are_known_and_no_extension_names_two() -> None:
    extensions = Counter(extension for row in LANGUAGES.values() for extension in row[0].split())

    assert [extension for extension, count in extensions.items() if count > 1] == []
    assert [name for name in TABLE_1.split() if name not in LANGUAGES] == []
    assert [find_language(name) for name in ("C++", "Jupyter Notebook", "Visual Basic")] == [
        *("cpp", "jupyter-notebook", "visual-basic")
    ]
