"""Issues as conversations."""

import json
from pathlib import Path

from tests.curate.sources.reading import read_all


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
