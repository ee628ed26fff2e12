"""Personal data is replaced, and what only looks like it stays."""

from pathlib import Path

import pytest

from codeshell_hf.curate.redaction import redact
from codeshell_hf.text.documents import read_documents
from tests.curate.toy_corpus import GOOD, run, write_files

REPLACED = {
    "write to ann.lee+x@corp-mail.co.uk now": "write to <EMAIL> now",
    "cc: bob@mail.technology, please": "cc: <EMAIL>, please",
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

    outcome = run(folder, tmp_path / "out", near_duplicates=None, redacts=True)

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert texts["source/a.py"].endswith("# by <EMAIL>, <EMAIL>\n")
    assert outcome.placeholders == {"<EMAIL>": 2, "<IP_ADDRESS>": 1}
