"""Chatting and completing in a terminal: what is shown, what is stopped, what is written into files."""

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.commands import chat, complete
from codeshell_hf.commands.complete import read_place
from codeshell_hf.errors import DataError
from codeshell_hf.text.decode import Sampling, StopFilter, stream

STOP = "|<end>|"


@given(st.lists(st.text(alphabet="|<end> x", max_size=9), max_size=12))
def test_filter_shows_what_stands_before_the_first_stop_however_it_comes(pieces: list[str]) -> None:
    shown: list[str] = []
    held = StopFilter([STOP, "## human"], shown.append)

    for piece in pieces:
        held.feed(piece)
        # Never a character that a stop takes back.
        assert "".join(pieces).split(STOP)[0].startswith("".join(shown))
    held.end()

    whole = "".join(pieces)
    assert "".join(shown) == whole.split(STOP)[0] == held.text
    assert held.is_stopped == (STOP in whole)


@pytest.fixture
def folder(learnt_by_heart: Path) -> Path:
    return learnt_by_heart


@pytest.mark.parametrize(("prompt", "answer"), [("add", "return a + b\n"), ("面积", "返回 r\n")])
def test_chat_answers_a_prompt_without_its_stop(folder: Path, capsys, prompt: str, answer: str) -> None:
    assert chat.main([str(folder), "--prompt", prompt, "--max-new-tokens", "40"]) == 0
    assert capsys.readouterr().out == answer


def test_chat_answers_what_is_piped_in(folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("add\n"))

    assert chat.main([str(folder), "--max-new-tokens", "40"]) == 0
    assert capsys.readouterr().out == "return a + b\n"


def test_chat_in_a_real_terminal(folder: Path) -> None:
    """Turns, a turn of several lines, commands, and the end of input."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "codeshell_hf", "chat", str(folder), "--max-new-tokens", "24"],
        stdin=follower, stdout=follower, stderr=follower, cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen = ""

    def wait_for(text: str, count: int = 1) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while seen.count(text) < count and time.monotonic() < deadline:
            try:
                seen += os.read(leader, 4096).decode(errors="replace")
            except OSError:
                break
        assert seen.count(text) >= count, seen

    wait_for(">>> ")
    os.write(leader, b"add\n")
    wait_for("return a + b")
    wait_for(">>> ", 2)
    os.write(leader, b"/new\n")
    wait_for(">>> ", 3)
    os.write(leader, b'"""add\n')
    wait_for("... ")
    os.write(leader, b'"""\n')
    wait_for("return a + b", 2)
    wait_for("tokens, ", 2)
    wait_for(">>> ", 4)
    os.write(leader, b"/what\n")
    wait_for("/undo the last turn", 2)
    wait_for(">>> ", 5)
    for _ in range(30):  # an end of input that comes before the prompt is ready is lost
        os.write(leader, b"\x04")
        try:
            assert process.wait(timeout=1) == 0
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0
    os.close(leader)


def test_long_conversations_lose_their_oldest_turns_and_say_so(folder: Path, capsys) -> None:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.train.weights import load_model

    model = load_model(str(folder), dtype=torch.float32)
    tokenizer = CodeShellTokenizer.from_pretrained(folder)
    talk = chat.Chat(model, tokenizer, Sampling(8), system="be brief")
    for _ in range(8):
        talk.answer("a word and another " * 3)

    assert "no longer fit" in capsys.readouterr().err
    assert len(talk.turns) < 16
    assert talk.turns[0]["role"] == "user"
    before = list(talk.turns)
    with pytest.raises(DataError, match=r"the prompt has \d+ tokens, and of 160 positions 152 are left"):
        talk.answer("word " * 200)
    assert talk.turns == before


def test_the_same_seed_draws_the_same_and_ctrl_c_keeps_what_was_said(folder: Path) -> None:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.train.weights import load_model

    model = load_model(str(folder), dtype=torch.float32)
    tokenizer = CodeShellTokenizer.from_pretrained(folder)
    prompt = tokenizer.encode_text("for (int i")
    texts = {stream(model, tokenizer, prompt, Sampling(12, 1.5, 1.0, seed)).text for seed in (1, 1, 1)}
    others = {stream(model, tokenizer, prompt, Sampling(12, 1.5, 1.0, seed)).text for seed in range(4)}
    pieces: list[str] = []

    def cut(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    stopped = stream(model, tokenizer, prompt, Sampling(60, 1.5, 1.0, 0), on_text=cut)

    assert len(texts) == 1
    assert len(others) > 1
    assert not stopped.is_finished
    assert 0 < stopped.tokens < 60


def test_completion_is_a_diff_and_changes_nothing(folder: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "area.py"
    file.write_text("def area(r):\n    return \n")

    assert complete.main([str(folder), f"{file}:2", "--max-new-tokens", "40"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "+    return 3.14 * r" in lines
    assert "+    # end" in lines
    assert file.read_text() == "def area(r):\n    return \n"
    assert complete.main([str(folder), f"{file}:2:12", "--line", "--max-new-tokens", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "+    return 3.14 * r" in lines
    assert "+    # end" not in lines


def test_several_completions_differ_and_come_again_with_their_seed(folder: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "loop.py"
    file.write_text("for i in x:\n    \n")
    call = [str(folder), f"{file}:2", "--count", "3", "--temperature", "1.9", "--max-new-tokens", "12", "--seed", "3"]

    printed = []
    for _ in range(2):
        assert complete.main(call) == 0
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1]
    assert len(set(printed[0].split("--- a/")[1:])) > 1


def test_completion_can_be_written_and_keeps_line_ends_and_rights(folder: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "area.py"
    file.write_bytes(b"# \xe9\r\n".decode("latin-1").encode() + b"def area(r):\n    return \n")
    file.chmod(0o755)

    assert complete.main([str(folder), f"{file}:3", "--write", "--line", "--max-new-tokens", "40"]) == 0

    assert file.read_bytes().startswith("# é\r\ndef area(r):\n    return ".encode())
    assert len(file.read_bytes()) > len("# é\r\ndef area(r):\n    return \n".encode())
    assert file.stat().st_mode & 0o777 == 0o755
    assert "characters into" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["area.py"]


def test_places_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    file = tmp_path / "a:b.py"
    file.write_text("x\f1\n\u2028y\nz")

    assert read_place(f"{file}:1")[2] == 3
    assert read_place(f"{file}:2:1")[2] == 4
    assert read_place(f"{file}:3")[2] == 8
    file.write_text("")
    assert read_place(f"{file}:1")[2] == 0


def test_wrong_calls_are_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_bytes(b"\xff\xfe")
    for module, call, message in (
        (complete, [str(folder), f"{tmp_path}/a.py"], "is no place; write FILE:LINE"),
        (complete, [str(folder), f"{tmp_path}/a.py:9"], "has 2 lines, not a line 9"),
        (complete, [str(folder), f"{tmp_path}/a.py:1:9"], "has columns 1 to 6, not 9"),
        (complete, [str(folder), f"{tmp_path}/b.py:1"], "cannot be read as UTF-8"),
        (complete, [str(folder), f"{tmp_path}/a.py:1", "--count", "2"], "needs --temperature"),
        (complete, [str(folder), f"{tmp_path}/a.py:1", "--max-new-tokens", "159"], "the model has 160 positions"),
        (complete, [str(tmp_path / "none"), f"{tmp_path}/a.py:1"], "cannot be loaded"),
        (chat, [str(tmp_path / "none"), "--prompt", "x"], "cannot be loaded"),
        (chat, [str(folder), "--prompt", " "], "the prompt is empty"),
        (chat, [str(folder), "--prompt", "x", "--device", "cuda:9"], "--device cuda:9 cannot be used"),
    ):
        capsys.readouterr()
        assert module.main(call) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.strip().count("\n") == 0, error
    with pytest.raises(SystemExit) as caught:
        chat.main([str(folder), "--temperature", "7"])
    assert caught.value.code == 2
