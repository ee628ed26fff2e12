"""Common Crawl's pages and Stack Exchange's questions."""

import gzip
import html
from pathlib import Path

from tests.curate.sources.reading import read_all

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

    assert [document.reason for document in found.values()] == [None, "too-large", None, "corrupt-record"]
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
