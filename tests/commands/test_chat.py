"""Chatting in a terminal: what is shown, what is stopped, what is dropped."""

import io
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.commands import chat
from codeshell_hf.errors import DataError
from codeshell_hf.loading import load_model
from codeshell_hf.text.sampling import Sampling


@pytest.fixture
def folder(learnt_by_heart: Path) -> Path:
    return learnt_by_heart


@pytest.mark.parametrize(("prompt", "answer"), [("add", "return a + b\n"), ("面积", "返回 r\n")])
def test_chat_answers_a_prompt_without_its_stop(
    folder: Path, capsys: pytest.CaptureFixture[str], prompt: str, answer: str
) -> None:
    assert chat.main([str(folder), "--prompt", prompt, "--max-new-tokens", "40"]) == 0
    assert capsys.readouterr().out == answer


def test_chat_answers_what_is_piped_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("add\n"))

    assert chat.main([str(folder), "--max-new-tokens", "40"]) == 0
    assert capsys.readouterr().out == "return a + b\n"


@pytest.mark.slow
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
    wait_for("/undo removes the last turn", 2)
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


def test_long_conversations_lose_their_oldest_turns_and_say_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(str(folder), dtype=torch.float32)
    tokenizer = CodeShellTokenizer.from_pretrained(folder)
    talk = chat.Chat(model, tokenizer, Sampling(8), system="be brief")
    for _ in range(8):
        talk.answer("a word and another " * 3)

    assert "no longer fit" in capsys.readouterr().err
    assert len(talk.turns) < 16
    assert talk.turns[0]["role"] == "user"
    before = list(talk.turns)
    with pytest.raises(DataError, match=r"the prompt has \d+ tokens, but 152 of 160 positions are left"):
        talk.answer("word " * 200)
    assert talk.turns == before


def test_wrong_calls_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for call, message in (
        ([str(tmp_path / "none"), "--prompt", "x"], "does not exist; name a folder"),
        ([str(folder), "--prompt", " "], "the prompt is empty"),
        ([str(folder), "--prompt", "x", "--device", "cuda:9"], "--device cuda:9 cannot be used"),
    ):
        assert chat.main(call) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.strip().count("\n") == 0, error
    with pytest.raises(SystemExit) as caught:
        chat.main([str(folder), "--temperature", "7"])
    assert caught.value.code == 2


def test_the_oldest_turns_are_dropped_and_the_system_text_stays(
    tiny_model: Callable[..., CodeShellForCausalLM],
    tiny_tokenizer: CodeShellTokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer), n_positions=128)
    conversation = chat.Chat(model, tiny_tokenizer, Sampling(28), system="S")
    for number in range(6):
        conversation.turns += [
            {"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": "x"},
        ]  # fmt: skip
    conversation.turns.append({"role": "user", "content": "question 6"})

    ids = conversation.fit()

    text = tiny_tokenizer.decode(ids)
    assert len(ids) <= 100
    assert "question 0" not in text
    assert "question 6" in text
    assert text.startswith("## human:S\n\nquestion ")
    assert text.endswith("## assistant:")
    dropped = 13 - len(conversation.turns)
    assert dropped % 2 == 0
    assert f"[the first {dropped} turns no longer fit, and are left out]" in capsys.readouterr().err
