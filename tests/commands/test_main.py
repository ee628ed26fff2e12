"""The `codeshell` command: what it lists, how soon, and what a wrong word is answered."""

import importlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from codeshell_hf.commands import transformers_cli
from codeshell_hf.commands.main import COMMANDS, main
from codeshell_hf.stages import STAGES
from codeshell_hf.version import __version__


def test_help_lists_every_command_and_stage_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    text = capsys.readouterr().out

    assert bare == text
    for word in (*COMMANDS, *STAGES):
        assert f" {word} " in text.replace("\n", " "), word
    assert "\n  codeshell run nano " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main([name, "--help"])
    except SystemExit as stopped:
        status = stopped.code

    printed = capsys.readouterr()
    assert status == 0
    assert f"usage: codeshell {name}" in printed.out
    assert f"\ncodeshell {name} " in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("word", "advice"),
    [("chta", "did you mean 'chat'?"), ("pretran", "did you mean 'pretrain'?"), ("xyz", "codeshell --help lists them")],
)
def test_a_mistyped_command_is_one_line_with_the_nearest(
    word: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "whatever"]) == 2

    assert capsys.readouterr().err == f"codeshell: error: unknown command '{word}'; {advice}\n"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, others = capsys.readouterr().out.splitlines()
    assert first == f"codeshell-hf {__version__}"
    assert f"python {platform.python_version()}" in others
    assert "transformers 5." in others


def test_help_imports_nothing_heavy() -> None:
    """Half a second is a claim of a quiet machine; that torch and transformers stay out holds anywhere."""
    calls = [*COMMANDS, *STAGES, "chat model http://localhost:8000", "serve model --port 8000"]
    script = (
        "import contextlib, io, sys\n"
        "from codeshell_hf.commands.main import main\n"
        "for call in sys.argv[1:]:\n"
        "    printed = io.StringIO()\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(printed):\n"
        "        main([*call.split(), '--help'])\n"
        "    assert printed.getvalue().startswith(f'usage: codeshell {call.split()[0]} '), printed.getvalue()\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'trl', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (call, heavy)\n"
    )

    done = subprocess.run([sys.executable, "-c", script, *calls], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_what_is_refused_at_once_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    calls = ["chat none", "chat runs/nano/publish/model", "complete none code.py:1", "complete none.py:1", "serve none",
             "gguf none out.gguf", "sft recipes/nano/sft.yaml", "chat code.py"]  # fmt: skip
    script = (
        "import contextlib, io, sys\n"
        "from codeshell_hf.commands.main import main\n"
        "for call in sys.argv[1:]:\n"
        "    with contextlib.redirect_stderr(io.StringIO()):\n"
        "        assert main(call.split()) == 2, call\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'trl'} & set(sys.modules)\n"
        "    assert not heavy, (call, heavy)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, *calls], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["chat", "model", "http://localhost:8000"], ["chat", "model", "http://localhost:8000"]),
        (["transformers", "env"], ["env"]),
        (["transformers", "serve", "--help"], ["serve", "--help"]),
    ],
)
def test_chats_with_servers_and_other_commands_are_transformers_own(
    given: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def call(arguments: Sequence[str]) -> int:
        calls.append(list(arguments))
        return 0

    monkeypatch.setattr(transformers_cli, "main", call)

    assert main(given) == 0
    assert calls == [passed]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_with_a_main(name: str) -> None:
    assert callable(importlib.import_module(COMMANDS[name][0]).main)
