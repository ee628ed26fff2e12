"""Every kind of source gives its documents, and what is broken has a name instead of a traceback."""

import bz2
import gzip
import html
import http.server
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.sources import Document, Source, list_units, read_unit
from codeshell_hf.curate.sources import repositories as repositories_module
from codeshell_hf.curate.sources.licences import PERMISSIVE, name_licence
from codeshell_hf.curate.sources.repositories import find_facts, read_addresses
from codeshell_hf.errors import DataError
from tests.curation import GOOD, run, write_files
from tests.hub import serve_hub, visit_hub

MAX_BYTES = 2_000
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def read_all(kind: str, path: Path | str, *, max_bytes: int = MAX_BYTES, **fields: Any) -> dict[str, Document]:
    source = Source("s", kind, str(path), **fields)  # type: ignore[arg-type]
    found = [document for unit in list_units(source) for document in read_unit(source, unit, max_bytes=max_bytes)]
    documents = {document.id: document for document in found}
    assert len(documents) == len(found), "ids are unlike one another"
    return documents


def git(folder: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "tester" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two commits under the MIT licence."""
    folder = tmp_path / "owner" / "tool"
    licence = (
        "Permission is hereby granted, free of charge, to any person. "
        "The above copyright notice and this permission notice shall be included."
    )
    write_files(folder, {"area.py": GOOD, "LICENSE": licence})
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Add the area of a circle")
    (folder / "area.py").write_text(GOOD.replace("3.14159", "math.pi"))
    git(folder, "commit", "--quiet", "-am", "Take pi from math\n\nIt is more exact.")
    git(folder, "remote", "add", "origin", "https://user:secret@example.org/owner/tool.git")
    return folder


@needs_git
def test_checkouts_carry_their_address_without_credentials_and_their_licence(checkout: Path) -> None:
    write_files(checkout.parent, {"loose.py": GOOD})

    found = read_all("folder", checkout.parent)

    assert found["s/tool/area.py"].repository == "https://example.org/owner/tool.git"
    assert found["s/tool/area.py"].licence == "MIT"
    assert found["s/loose.py"].repository is None
    assert not any(".git/" in key for key in found)


@needs_git
def test_commits_are_messages_and_differences(checkout: Path) -> None:
    found = list(read_all("commits", checkout).values())

    assert [document.content.decode().split("\n")[0] for document in found] == [
        *("Add the area of a circle", "Take pi from math")
    ]
    assert "+    return math.pi * radius ** 2" in found[1].content.decode()
    assert {document.language for document in found} == {"git-commits"}
    assert {document.licence for document in found} == {"MIT"}


@needs_git
def test_a_commit_that_is_too_long_is_named_and_the_next_one_read(checkout: Path) -> None:
    write_files(checkout, {"big.txt": "word\n" * 3000})
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "Add much")
    write_files(checkout, {"small.txt": "one more\n"})
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "Add little")

    found = list(read_all("commits", checkout).values())

    assert [document.reason for document in found] == [None, None, "too-large", None]
    assert found[3].content.startswith(b"Add little")


@needs_git
def test_nothing_that_a_checkout_configures_is_run(checkout: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    git(checkout, "config", "core.fsmonitor", f"touch {trap}; false")
    git(checkout, "config", "diff.external", f"touch {trap}; false")
    git(checkout, "config", "diff.x.textconv", f"touch {trap}; cat")
    write_files(checkout, {".gitattributes": "*.py diff=x\n"})

    read_all("commits", checkout)
    read_all("folder", checkout)

    assert not trap.exists()


class Host(http.server.BaseHTTPRequestHandler):
    """A git host's interface, as Gitea and GitLab have it."""

    def do_GET(self) -> None:
        answers = {
            "/api/v1/repos/owner/tool": {"stars_count": 7, "licenses": ["Apache-2.0"]},
            "/api/v4/projects/group%2Fother?license=true": {"star_count": 9, "license": {"key": "mit"}},
        }
        answer = answers.get(self.path)
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_hosts_tell_licence_and_stars(host: str) -> None:
    assert find_facts(f"{host}/owner/tool.git") == {"licence": "Apache-2.0", "stars": 7}
    assert find_facts(f"{host}/group/other") == {"licence": "mit", "stars": 9}
    assert find_facts(f"{host}/nobody/none") == {"licence": None, "stars": None}
    assert find_facts("git@example.org:owner/tool.git") == {"licence": None, "stars": None}


@needs_git
def test_a_list_of_repositories_is_cloned_once_and_what_cannot_be_is_named(
    checkout: Path, tmp_path: Path, monkeypatch
) -> None:
    addresses = tmp_path / "list.txt"
    addresses.write_text(f"file://{checkout}  # ours\n\nfile://{tmp_path}/nowhere.git\n")
    monkeypatch.setattr(repositories_module, "find_facts", lambda address: {"licence": None, "stars": 42})

    found = read_all("repositories", addresses)

    assert found["s/owner/tool/area.py"].content == (checkout / "area.py").read_bytes()
    assert found["s/owner/tool/area.py"].stars == 42
    assert found["s/owner/tool/area.py"].licence == "MIT", "where the host says nothing, the licence's text does"
    assert found[f"s/file://{tmp_path}/nowhere.git"].reason == "not-cloned"
    shutil.rmtree(checkout)
    assert read_all("repositories", addresses).keys() == found.keys()


def test_a_list_with_a_line_that_is_no_address_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://example.org/a/b\n--upload-pack=touch\n")
    with pytest.raises(DataError, match=r"'--upload-pack=touch' in .* is no address of a repository; write https://"):
        read_addresses(tmp_path / "list.txt")


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


MEMBERS = {"a/area.py": GOOD.encode(), "../../escape.py": b"x = 1\n", "/abs.py": b"x = 2\n", "big.py": b"x = 1\n" * 999}


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.tar.bz2", "t.tar.xz", "t.zip"])
def test_archives_are_read_and_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in MEMBERS.items():
                archive.writestr(member, content)
    else:
        make_tar(path, MEMBERS, "w:" + name.partition(".tar")[2].removeprefix("."))

    found = {key.partition("!")[2]: document for key, document in read_all("archives", path.parent).items()}

    assert found["a/area.py"].content == GOOD.encode()
    reasons = {key: document.reason for key, document in found.items()}
    assert reasons == {
        "a/area.py": None,
        "../../escape.py": "unsafe-path",
        "/abs.py": "unsafe-path",
        "big.py": "too-large",
    }
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [name]


def test_bombs_broken_and_locked_archives_are_named(tmp_path: Path, monkeypatch) -> None:
    from codeshell_hf.curate.sources import archives

    monkeypatch.setattr(archives, "BOMB_BYTES", 1_000_000)
    make_tar(tmp_path / "bomb.tar.gz", {f"{n}.py": b"\0" * 1_000_000 for n in range(8)})
    whole = make_tar(tmp_path / "cut.tar.gz", {"a.py": GOOD.encode(), "b.py": os.urandom(9_000)}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.zip").write_bytes(b"PK\3\4 and nothing more")

    found = {key: document.reason for key, document in read_all("archives", tmp_path).items()}

    assert found["s/bomb.tar.gz!"] == "archive-bomb"
    assert found["s/cut.tar.gz!"] == "corrupt-file"
    assert found["s/no.zip!"] == "corrupt-file"


ROWS = [
    {
        "content": GOOD,
        "lang": "Python",
        "max_stars_repo_name": "o/r",
        "max_stars_repo_path": "area.py",
        "max_stars_repo_licenses": ["MIT", "BSD-3-Clause"],
        "max_stars_count": 12,
    },
    {"content": "int x;\n", "max_stars_repo_path": "x.c"},
]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.bz2", "t.jsonl.xz", "t.jsonl.zst", "t.parquet"])
def test_tables_in_the_stacks_schema_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith("zst"):
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(data)
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(data))

    first, second = read_all("parquet" if name.endswith("parquet") else "jsonl", path).values()

    assert (first.content.decode(), first.language, first.repository) == (GOOD, "python", "o/r")
    assert (first.path, first.licence, first.stars) == ("area.py", "BSD-3-Clause AND MIT", 12)
    assert (second.language, second.licence, second.stars) == ("c", None, None)


def test_other_columns_are_named_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"body": GOOD, "kind": "python"}) + "\n")

    (document,) = read_all("jsonl", tmp_path / "t.jsonl", columns={"text": "body", "language": "kind"}).values()

    assert (document.content.decode(), document.language) == (GOOD, "python")


def test_a_large_file_is_read_in_ranges_and_every_line_once(tmp_path: Path, monkeypatch) -> None:
    from codeshell_hf.curate.sources import tables

    path = tmp_path / "t.jsonl"
    texts = [f"x = {'a' * (n * 7 % 190)}  # {n}\n" for n in range(300)]
    path.write_text("".join(json.dumps({"text": text, "path": "x.py"}) + "\n" for text in texts))
    for size in (1, 97, 1000, 5000, 10**9):
        monkeypatch.setattr(tables, "RANGE_BYTES", size) if size > 1 else monkeypatch.setattr(tables, "RANGE_BYTES", 13)
        found = read_all("jsonl", path)
        assert [document.content.decode() for document in found.values()] == texts


def test_broken_lines_missing_text_and_endless_lines_are_named(tmp_path: Path) -> None:
    lines = [json.dumps({"text": GOOD, "path": "a.py"}), '{"text": "cut', "[1, 2]", json.dumps({"path": "b.py"}),
             json.dumps({"text": "x" * 5000, "path": "c.py"}), "[" * 30_000, "", '{"text": "\\ud800", "path": "d.py"}',
             json.dumps({"text": "last = 1\n", "path": "e.py"})]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines))

    found = read_all("jsonl", tmp_path / "t.jsonl")

    reasons = [document.reason for document in found.values()]
    assert reasons == [None, "broken-line", "broken-line", "no-text", "too-large", "broken-line", None, None]
    funnel = run(tmp_path / "t.jsonl", tmp_path / "out", kind="jsonl").funnel
    assert dict(funnel.reasons()) == {"broken-line": 3, "no-text": 1, "not-text": 1, "long-lines": 1}


def test_a_line_of_two_hundred_megabytes_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "t.jsonl").open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(200):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n' + json.dumps({"text": GOOD, "path": "a.py"}).encode() + b"\n")
    tracemalloc.start()

    found = list(read_all("jsonl", tmp_path / "t.jsonl").values())

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [document.reason for document in found] == ["too-large", None]
    assert found[0].size > 200_000_000
    assert peak < 20_000_000


def test_corrupt_files_are_named_and_a_table_without_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but not for long")
    pq.write_table(pa.table({"content": [GOOD] * 5000}), tmp_path / "cut.parquet", row_group_size=1000)
    data = bytearray((tmp_path / "cut.parquet").read_bytes())
    data[40:200] = os.urandom(160)
    (tmp_path / "cut.parquet").write_bytes(bytes(data))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": GOOD}).encode() * 50)[:-30])

    assert "corrupt-file" in [document.reason for document in read_all("parquet", tmp_path).values()]
    assert [document.reason for document in read_all("jsonl", tmp_path).values()][-1] == "corrupt-file"
    pq.write_table(pa.table({"words": ["x"]}), tmp_path / "words.parquet")
    with pytest.raises(
        DataError, match=r"has no column content or text or code but words; set columns.text of source s"
    ):
        read_all("parquet", tmp_path / "words.parquet")


READ_HUB = """
import sys
from codeshell_hf.curate.sources import Source, list_units, read_unit
from codeshell_hf.errors import DataError
try:
    source = Source("s", "hub", sys.argv[1])
    for unit in list_units(source):
        for document in read_unit(source, unit, max_bytes=2000):
            print(unit.path.partition("@")[2][:6], document.id, document.language, len(document.content))
except DataError as error:
    print(error)
"""


def test_a_data_set_of_the_hub_is_read_at_one_commit(tmp_path: Path) -> None:
    rows = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), rows)
    line = json.dumps(ROWS[0]).encode() + b"\n"
    with serve_hub() as (hub, address):
        hub.add("datasets/owner/code", {"data/a.parquet": rows.getvalue(), "data/b.jsonl": line, "README.md": b"-"})
        environment = visit_hub(address, tmp_path / "home")

        def read(name: str) -> list[str]:
            command = [sys.executable, "-c", READ_HUB, name]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return done.stdout.splitlines()

        commit = hub.stores["datasets/owner/code"].commit_id("main")[:6]
        expected = [
            f"{commit} s/data/a.parquet@0 python {len(GOOD)}",
            f"{commit} s/data/a.parquet@1 c 7",
            f"{commit} s/data/b.jsonl@0 python {len(GOOD)}",
        ]
        assert read("hf://datasets/owner/code/data") == expected
        assert read("owner/code@main") == expected
        assert "source s is owner/none, which the Hub does not give" in read("owner/none")[0]


WET = (
    (
        "WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 4\r\n\r\nabcd\r\n\r\n"
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: https://example.org/a\r\nContent-Length: 12\r\n\r\n"
        "Some words.\n\r\n\r\n"
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: https://example.com/b\r\nContent-Length: 5000\r\n\r\n"
    )
    + "x" * 5000
    + "\r\n\r\n"
)


def test_pages_of_wet_files_are_documents(tmp_path: Path) -> None:
    (tmp_path / "a.warc.wet.gz").write_bytes(gzip.compress(WET.encode()))
    (tmp_path / "b.warc.wet.gz").write_bytes(gzip.compress(WET.encode()[:-2000]))

    found = read_all("wet", tmp_path)

    assert [document.reason for document in found.values()] == [None, "too-large", None, "corrupt-file"]
    page = found["s/a.warc.wet.gz@0"]
    assert (page.content, page.path, page.repository) == (b"Some words.\n", "https://example.org/a", "example.org")
    assert page.language == "web-text"


POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" AcceptedAnswerId="3" Score="5" Title="Why?" Body="{question}" ContentLicense="BY-SA" />
  <row Id="2" PostTypeId="2" ParentId="1" Score="9" Body="&lt;p&gt;Second.&lt;/p&gt;" />
  <row Id="4" PostTypeId="2" ParentId="1" Score="-1" Body="&lt;p&gt;Wrong.&lt;/p&gt;" />
  <row Id="3" PostTypeId="2" ParentId="1" Score="1" Body="{answer}" />
  <row Id="5" PostTypeId="1" broken
</posts>
""".format(
    question=html.escape("<p>Use <code>len</code>?</p>"),
    answer=html.escape("<pre><code>len(x) &lt; 3\n</code></pre>").replace("\n", "&#xA;"),
)


def test_questions_stand_with_their_answers_the_accepted_one_first(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS)

    found = read_all("stackoverflow", tmp_path)

    assert [document.reason for document in found.values()] == ["broken-line", None]
    question = found["s/Posts.xml@1"]
    assert question.content.decode() == (
        "# Why?\n\nUse `len`?\n\n## Answer\n\n```\nlen(x) < 3\n```\n\n## Answer\n\nSecond.\n"
    )
    assert (question.stars, question.licence, question.language) == (5, "BY-SA", "stack-exchange")


def test_issues_become_conversations_without_names_and_machines(tmp_path: Path) -> None:
    rows = [
        {"repo": "o/r", "number": 4, "title": "Crash", "user": {"login": "ann"}, "body": "It falls.",
         "comments": [{"user": {"login": "ci[bot]"}, "body": "Failed."}, {"user": {"login": "bob"}, "body": "Why?"},
                      {"user": {"login": "ann"}, "body": "No idea."}]},
        {"repo": "o/r", "issue_id": 9, "events": [{"author": "cleo", "title": "Help", "text": "Please."}]},
        {"repo": "o/r", "title": "Nothing", "body": None, "user": {"login": "dan"}},
    ]  # fmt: skip
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = list(read_all("issues", tmp_path).values())

    assert found[0].content.decode() == (
        "Title: Crash\n\nperson_0: It falls.\n\nperson_1: Why?\n\nperson_0: No idea.\n"
    )
    assert found[1].content.decode() == "Title: Help\n\nperson_0: Please.\n"
    assert [document.reason for document in found] == [None, None, "no-text"]


def test_notebooks_become_scripts_and_structured_text(tmp_path: Path) -> None:
    notebook = {
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
            {"cell_type": "code", "source": "%matplotlib inline\nprint(1)", "outputs": [{"text": ["1\n"]}]},
        ],
    }
    write_files(tmp_path, {"n.ipynb": json.dumps(notebook), "bad.ipynb": "{"})

    found = read_all("folder", tmp_path)

    assert found["s/n.ipynb#scripts"].content.decode() == "# # Title\n# Words.\n\n# %matplotlib inline\nprint(1)\n"
    assert found["s/n.ipynb#structured"].content.decode() == (
        "# Title\nWords.\n\n```python\n%matplotlib inline\nprint(1)\n```\n\n```output\n1\n```\n"
    )
    assert {found[f"s/bad.ipynb#{form}"].reason for form in ("scripts", "structured")} == {"corrupt-file"}


def test_folders_that_cannot_be_read_pipes_and_loops_end_nothing(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "deep/b.py": GOOD})
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.py")

    found = read_all("folder", folder)

    assert sorted(found) == ["s/a.py", "s/deep/b.py"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_rights_is_one_reason(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "locked/b.py": GOOD})
    (folder / "locked").chmod(0)

    found = read_all("folder", folder)
    (folder / "locked").chmod(0o700)

    assert found["s/locked/"].reason == "unreadable"


def test_what_cannot_be_listed_is_named(tmp_path: Path, monkeypatch) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "locked/b.py": GOOD})
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = read_all("folder", folder)

    assert {key: document.reason for key, document in found.items()} == {"s/a.py": None, "s/locked/": "unreadable"}


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    source = Source("s", "folder", str(write_files(tmp_path, {"a.py": GOOD})))
    (unit,) = list_units(source)
    (tmp_path / "a.py").unlink()

    (document,) = read_unit(source, unit, max_bytes=10)

    assert document.reason == "unreadable"


def test_excluded_patterns_are_left_out(tmp_path: Path) -> None:
    write_files(tmp_path, {"tests/a.py": GOOD, "b.py": GOOD})

    assert sorted(read_all("folder", tmp_path, exclude=("tests/*",))) == ["s/b.py"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "archives", "wet", "stackoverflow", "issues", "commits"])
def test_a_source_that_is_not_there_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source s is .*(does not exist|no file ends in|no git checkout lies)"):
        read_all(kind, tmp_path / "none")


def test_licences_are_named_by_their_text() -> None:
    root = Path(__file__).parents[1]

    assert name_licence((root / "LICENSE").read_text()) == "Apache-2.0"
    assert name_licence("All rights reserved.") is None
    assert "GPL-3.0" not in PERMISSIVE
