"""A short program or text in each language of the report's Table 1, and in each format of a source."""

import gzip
import html
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.curate.sources.reading import git

# Language, as The Stack names it: file name and text.
PROGRAMS: dict[str, tuple[str, str]] = json.loads(
    (Path(__file__).parents[1] / "data" / "good_documents.json").read_text(encoding="utf-8")
)
CORPORA = {"github-issues", "git-commits", "jupyter-scripts", "jupyter-structured"}
"""Table 1's corpora that are no languages; with those above it has 49 rows that are named."""

COMMIT = "Round the weights\n\n--- a/scale.py\n+++ b/scale.py\n-    return weight\n+    return round(weight, digits)\n"
ISSUE = {
    "title": "Sorting fails",
    "user": {"login": "ann"},
    "repo": "a/parcels",
    "number": 4,
    "comments": [],
    "body": "When I sort an empty list of parcels, it prints a warning and never returns to the prompt.",
}
SLOW = "Title: Slow start\n\nperson_0: The service needs a whole minute to answer the first request of a day."
QUESTION = "<p>How do I reverse a linked list in place, without a second list and with constant memory?</p>"
ANSWER = "<p>Walk the list once, and let each node point to the one before it.</p><pre><code>prev = node</code></pre>"
WORDS = [
    "survey",
    "shore",
    "bird",
    "winter",
    "report",
    "county",
    "river",
    "bridge",
    "teacher",
    "letter",
    "garden",
    "music",
    "market",
    "winter",
    "stone",
]
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": "# Tides"},
        {"cell_type": "code", "source": "load(tides)\nplot(heights)"},
    ],
    "metadata": {"language_info": {"name": "python"}},
}


def write_source(source: Mapping[str, object], place: Path) -> None:
    """Writes good documents in the format of a source, each of its languages once."""
    kind, name = source.get("kind", "folder"), source["name"]
    if kind == "folder":
        write_files(place)
    elif kind == "repositories":
        write_repository(place, str(name))
    elif kind == "parquet" and name == "starcoder":
        write_starcoder(place)
    elif kind == "parquet":
        rows = [
            {"content": text, "lang": language, "max_stars_repo_path": path, "max_stars_repo_licenses": ["MIT"]}
            for language, (path, text) in PROGRAMS.items()
        ]
        write_table(place / "data" / "0.parquet", rows)
    elif kind == "jsonl":
        write_lines(place / "0.jsonl", list_rows(str(name)))
    elif kind == "issues":
        write_lines(place / "0.jsonl", [ISSUE])
    elif kind == "stackoverflow":
        write_posts(place / "Posts.xml")
    else:
        assert kind == "wet", kind
        body = write_page(str(name)).encode()
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        place.mkdir(parents=True)
        (place / "0.warc.wet.gz").write_bytes(gzip.compress(head + body + b"\r\n\r\n"))


def list_rows(name: str) -> list[dict[str, object]]:
    if name == "commits":
        return [{"content": COMMIT}]  # neither path, language nor licence
    if name == "codesearchnet":
        return [{"path": "weigh.py", "original_string": PROGRAMS["python"][1], "code": "-", "language": "python"}]
    return [{"text": write_page(name), "language": "web-text", "path": "a"}]


def write_page(name: str) -> str:
    """Eighty words, others for each source."""
    words = random.Random(name).choices(WORDS, k=80)
    return " ".join(f"{word}." if place % 9 == 8 else word for place, word in enumerate(words)) + "\n"


def write_starcoder(place: Path) -> None:
    """As starcoderdata has it: a folder for each corpus, and no columns of languages or licences."""
    tables = {
        "python": [{"content": "import tide\n\nprint(tide.height(moon))\n", "max_stars_repo_path": "show.py"}],
        "git-commits-cleaned": [{"content": COMMIT.replace("weight", "height")}],
        "github-issues-filtered-structured": [{"content": SLOW}],
        "jupyter-scripts-dedup-filtered": [{"content": "# Rain\nrain = load(all)\nrain.plot()\n", "path": "r.ipynb"}],
        "jupyter-structured-clean-dedup": [{"content": "# Wind\n\n```python\nload(wind)\n```\n", "path": "w.ipynb"}],
    }
    for name, rows in tables.items():
        write_table(place / name / "train-0.parquet", rows)


def write_files(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path, text in PROGRAMS.values():
        (place / path).write_text(text, encoding="utf-8")
    (place / "tides.ipynb").write_text(json.dumps(NOTEBOOK), encoding="utf-8")


def write_repository(place: Path, name: str) -> None:
    """A list with one repository under the MIT licence."""
    folder = place.with_name(f"{name}.repository")
    folder.mkdir(parents=True)
    (folder / "tides.ipynb").write_text(json.dumps(NOTEBOOK), encoding="utf-8")
    (folder / f"only_{name}.py").write_text(f"def {name}(parcel):\n    return parcel.{name} or '{name}'\n")
    (folder / "LICENSE").write_text(
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this software.\n"
        "The above copyright notice and this permission notice shall be included in all copies.\n"
    )
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Add all")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"file://{folder}\n")


def write_posts(path: Path) -> None:
    path.parent.mkdir(parents=True)
    licence = 'ContentLicense="CC BY-SA 4.0"'
    path.write_text(
        f'<posts>\n<row Id="1" PostTypeId="1" Title="Reverse a list" Body="{html.escape(QUESTION)}" {licence} />\n'
        f'<row Id="2" PostTypeId="2" ParentId="1" Score="5" Body="{html.escape(ANSWER)}" {licence} />\n</posts>\n'
    )


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
