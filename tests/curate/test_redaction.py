"""Personal data is replaced, and what only looks like it stays."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.curate import redaction
from codeshell_hf.curate.personal_data import is_checked
from codeshell_hf.curate.redaction import find_spans, redact, redact_all
from codeshell_hf.text.documents import read_documents
from tests.curate.labelled_lines import PLACEHOLDERS, Labelled, read_lines
from tests.curate.toy_corpus import GOOD, run, write_files

REPLACED = {
    "write to ann.lee+x@corp-mail.co.uk now": "write to <EMAIL> now",
    "cc: bob@mail.technology, please": "cc: <EMAIL>, please",
    "host = '93.184.216.34'  # web": "host = '<IP_ADDRESS>'  # web",
    "addr = 2a00:1450:4009:81f::200e": "addr = <IP_ADDRESS>",
    "token = 'ghp_" + "a1B2" * 9 + "'": "token = '<KEY>'",
    "AWS = 'AKIA" + "ABCDEFGHIJKLMNOP'": "AWS = '<KEY>'",
    'db_password = "hunter2-really"': 'db_password = "<PASSWORD>"',
    "{'apiKey': 'Zx81-kk29-Qw77'}": "{'apiKey': '<KEY>'}",
    "a\n-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nb": "a\n<KEY>\nb",
    "hf = 'hf_" + "aBcD" * 9 + "'": "hf = '<KEY>'",
    "手机：13912345678": "手机：<PHONE>",
    "id = 11010519491231002X": "id = <ID_NUMBER>",
}
# The finders know these; the scan that chooses lines must too. Written apart from its patterns.
ESCAPED = {
    'DB_PASS2 = "«hunter22!x»"': "<PASSWORD>",
    "PASS1=«hunter22!x»": "<PASSWORD>",
    "DB_PASS_PROD=«hunter22x!»": "<PASSWORD>",
    "dbPass_prod = '«hunter22!x»'": "<PASSWORD>",
    '$pass1 = "«hunter22x»";': "<PASSWORD>",
    "docker login -u bob -p «hunter22x»": "<PASSWORD>",
    "masterauth «foobared1234»": "<PASSWORD>",
    "requirepass «foobared1234»": "<PASSWORD>",
    "sshpass -p «hunter22x» ssh h": "<PASSWORD>",
    "x login bob password «hunter22x»": "<PASSWORD>",
    "mysqldump -u root -p«hunter22x» db": "<PASSWORD>",
    "http -u admin:«hunter22x»": "<PASSWORD>",
    "mongo -u root:«abc123def»": "<PASSWORD>",
    "svn co --user admin:«abc123def»": "<PASSWORD>",
    "x --passwd «hunter22x»": "<PASSWORD>",
    "x --secret «hunter22x»": "<PASSWORD>",
    "aws configure set foo.bar «AbCdEf1234567890AbCd»": "<KEY>",
    'authorization": token «AbCdEf1234567890AbCd»': "<KEY>",
    'password = "«abcdefghijkl;1234»"': "<PASSWORD>",
    'password = "«hunter@xy»"': "<PASSWORD>",
    "密码：\u3000«hunter22x»": "<PASSWORD>",
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
    "origin deploy@acme-hosting.io:team/site.git (push)",
    "password = input2b",
)
BEGIN, END = "-----BEGIN RSA " + "PRIVATE KEY-----", "-----END RSA " + "PRIVATE KEY-----"
BODY = "MIIEowIBAAKCAQEAxb7Kj3nTq0uW5Fh2gYpLr8dCzVeQm1sX9oAtBiNkRlPwHyGc"
PRIVATE_KEYS = {
    f"x\n{BEGIN}\n{BODY}\n{BODY}\n{END}\ny": "x\n<KEY>\ny",
    f"x\n{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0F\n\n{BODY}\n{END}\ny": "x\n<KEY>\ny",
    f"x\n{BEGIN}\n{BODY}\n{BODY}\n": "x\n<KEY>\n",
    f"key: |\n  {BEGIN}\n  {BODY}\n  {BODY}\n  {END}\nnext: 1": "key: |\n  <KEY>\nnext: 1",
    f'k = "{BEGIN}\\n" +\n    "{BODY}\\n" +\n    "{BODY}\\n" +\n    "{END}";': 'k = "<KEY>";',
    f"# {BEGIN}\n# {BODY}\n# {END}\n": "# <KEY>\n",
    f'KEY="{BEGIN} {BODY}{BODY} {END}"': 'KEY="<KEY>"',
    f"{BEGIN}\r\n{BODY}\r\n{END}\r\n": "<KEY>\r\n",
    f"the line {BEGIN} comes first.\nText after\nthe line {END} is ignored": None,
    f'assert key.startswith("{BEGIN}")\nx = 1\n': None,
}


@pytest.mark.parametrize("text", REPLACED)
def test_what_belongs_to_somebody_is_replaced(text: str) -> None:
    found = redact(f"x = 1\n{text}\ny = 2\n")

    assert found.text == f"x = 1\n{REPLACED[text]}\ny = 2\n"
    assert sum(found.counts.values()) == 1


@pytest.mark.parametrize("text", ESCAPED)
def test_no_secret_that_the_finders_know_escapes_the_scan(text: str) -> None:
    before, _, rest = text.partition("«")
    value, _, after = rest.partition("»")

    assert redact(f"{before}{value}{after}").text == f"{before}{ESCAPED[text]}{after}"


def replace_found(line: str) -> str:
    """The line with what the finders find replaced, whatever the scan says."""
    for start, end, placeholder in reversed(find_spans(line)):
        line = line[:start] + placeholder + line[end:]
    return line


NAMES = [
    "pass", "PASS", "dbpass", "dbPass", "userPass", "Pass", "password", "passwd", "passphrase", "passcode",
    "passwort", "pwd", "DB_PASS", "密码", "口令", "密钥", "secret", "token", "secret_key_base", "apiKey", "api-key",
    "access_token", "account_key", "signing-secret", "session_key", "hmac_key", "jwt_secret", "encrypt_key",
]  # fmt: skip
SUFFIXES = [
    "", "_prod", "Prod", "-production", "_dev", "_test", "_STAGING", "Live", "value", "String", "raw", "_plain",
    "2", "_12", "s",
]  # fmt: skip
CLOSED = ["", '"', "'", '\\"', '"]', "']", "`", "[]"]
SEPARATORS = [
    "=", "==", "===", "!=", ":=", "=>", "->", ":", "：", ",", "(", ">", " = ", ": ", " ", "\t=\u3000", "：\xa0",
    " value = ", ": str = ", "; ", "\x1c=\x1f", ": Option<&'a str> = Some(", " =" + 120 * " ",
]  # fmt: skip
VALUES = [
    "hunter22!x", "hunter22x", "abcdefghijkl;1234", "a;b;c;d;1", "hunter@xy", "secret=val=", "qwertz?uiop",
    "~tilde~home", "12345678", "AbCdEf1234567890AbCd", "k9-x8_z7.w6/v5+u4==", "пароль1x", "密码密码1", "hunter２２x",
    "get_password()", "x" * 300 + "1",
]  # fmt: skip
COMMANDS = [
    "requirepass ", "masterauth ", "login bob password ", "--password ", "--passwd=", "--pass ", "--secret ",
    "--token ", "--api-key ", "sshpass -p ", "docker login -u bob -p ", "mysql -h db -p", "mysqldump --x -p ",
    "-u admin:", "--user  a.b@c:", '-u "Jörg:', "密码是", "口令 为", "Bearer ", "basic\t", 'Authorization": "Token ',
    "aws configure set a.b ", "https://bob:", "https://",
]  # fmt: skip
QUOTES = ["", '"', "'", "`", '\\"']
STARTS = ["", "export ", "  - ", "$env:", "# ", "my_", "x.", "<", "x = 1; ", "邮箱 "]
ENDS = ["", ";", ",", "\r", ")", "@host.io/x", "</password>", " # why", " 为"]


@given(
    st.sampled_from(STARTS),
    st.one_of(
        st.tuples(*map(st.sampled_from, (NAMES, SUFFIXES, CLOSED, SEPARATORS))).map("".join), st.sampled_from(COMMANDS)
    ),
    st.sampled_from(QUOTES),
    st.one_of(st.sampled_from(VALUES), st.text("abXY019_-;!@=.~ü", min_size=3, max_size=24)),
    st.sampled_from(ENDS),
)
def test_the_scan_chooses_every_line_in_which_a_finder_finds(
    start: str, name: str, quote: str, value: str, end: str
) -> None:
    line = f"{start}{name}{quote}{value}{quote}{end}"

    assert redact(line).text == replace_found(line)


def test_the_scan_chooses_few_lines_of_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of this package that the slow finders of secrets look at: 0.2 %."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in Path(redaction.__file__).parents[1].rglob("*.py"))
    looked_at: list[str] = []

    def look(line: str, kinds: Sequence[int]) -> list[tuple[int, int, str]]:
        looked_at.extend([line] if 1 in kinds else [])
        return []

    monkeypatch.setattr(redaction, "find_spans", look)
    redact(code)

    assert 0 < len(looked_at) < 0.005 * code.count("\n")


@pytest.mark.parametrize("seed", range(3))
def test_labelled_lines_all_pass_the_scan(seed: int) -> None:
    for labelled in read_lines(seed=seed):
        assert redact(labelled.line).text == replace_found(labelled.line)


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(f"{text}\n").text == f"{text}\n"


@pytest.mark.parametrize("text", PRIVATE_KEYS)
def test_private_keys_go_whole_or_cut_short_and_nothing_else(text: str) -> None:
    assert redact(text).text == (PRIVATE_KEYS[text] or text)


def measure(lines: Sequence[Labelled]) -> tuple[float, float]:
    """Precision and recall of exact spans with their placeholders."""
    found = [frozenset(find_spans(labelled.line)) for labelled in lines]
    right = sum(len(spans & labelled.spans) for spans, labelled in zip(found, lines, strict=True))
    return right / sum(map(len, found)), right / sum(len(labelled.spans) for labelled in lines)


@pytest.mark.parametrize("half", [0, 1], ids=["shown", "held out"])
def test_labelled_lines_are_redacted_with_precision_and_recall(half: int) -> None:
    lines = [labelled for seed in range(3) for labelled in read_lines(seed=seed)[half::2]]

    precision, recall = measure(lines)

    assert len(read_lines()) >= 300
    assert precision >= 0.98
    assert recall >= 0.98
    found = [find_spans(labelled.line) for labelled in lines]
    for placeholder in PLACEHOLDERS.values():
        spans = [frozenset(span for span in labelled.spans if span[2] == placeholder) for labelled in lines]
        right = sum(len(wanted.intersection(of_line)) for wanted, of_line in zip(spans, found, strict=True))
        assert right >= 0.95 * sum(map(len, spans)), placeholder


def test_whole_lines_are_redacted_as_their_labels_say() -> None:
    """Through the scans, many lines as one document: each line's right text is written by hand."""
    lines = read_lines(seed=7)

    redacted = redact("\n".join(labelled.line for labelled in lines)).text.split("\n")

    wrong = [now for now, labelled in zip(redacted, lines, strict=True) if now != labelled.redacted]
    assert len(wrong) <= 0.02 * len(lines), wrong


def test_other_places_of_the_same_letters_stay() -> None:
    text = 'password = "check1!"\ndef check1_password(check1): return check1!r\n# check1! is no password\n'

    assert redact(text).text == text.replace('"check1!"', '"<PASSWORD>"')


def test_many_documents_are_redacted_as_each_alone() -> None:
    texts = [
        "",
        "\n",
        "no end of line",
        *(labelled.line for labelled in read_lines()[::6]),
        "x\r\ny\x0b\u2028z\n",
        "邮箱：li@qq.com",
    ]

    together = redact_all(texts)

    assert [(found.text, found.counts) for found in together] == [
        (found.text, found.counts) for found in map(redact, texts)
    ]
    assert together[-1].text == "邮箱：<EMAIL>"


def test_redacting_again_changes_nothing_and_no_placeholder_is_made_of_placeholders() -> None:
    once = redact("\n".join([*REPLACED, *(labelled.line for labelled in read_lines())])).text

    again = redact(once)

    assert again.text == once
    assert not again.counts


def test_check_digits_are_those_of_the_standard() -> None:
    """The example of GB 11643-1999, and one whose check is X."""
    assert is_checked("11010519491231002X")
    assert is_checked("440524188001010014")
    assert not is_checked("110105194912310021")
    assert not is_checked("44052418800101001")


@pytest.mark.parametrize(
    "unit", ["a", "password=", "a@", "1.1.", "eyJ", "://a:", "-----BEGIN PRIVATE KEY-----\n", "pass "]
)
def test_long_lines_take_time_in_proportion(unit: str) -> None:
    import time

    times = []
    for size in (20_000, 80_000):
        start = time.process_time()
        redact(unit * (size // len(unit)))
        times.append(time.process_time() - start)

    assert times[1] < 10 * times[0] + 0.2


def test_documents_are_written_redacted_and_counted(tmp_path: Path) -> None:
    folder = write_files(
        tmp_path / "in",
        {"a.py": GOOD + "# by ann@corp.io, bob@corp.io\n", "b.py": "address_of_server = '93.184.216.34'\n"},
    )

    outcome = run(folder, tmp_path / "out", near_duplicates=None, redacts=True)

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert texts["source/a.py"].endswith("# by <EMAIL>, <EMAIL>\n")
    assert outcome.placeholders == {"<EMAIL>": 2, "<IP_ADDRESS>": 1}
