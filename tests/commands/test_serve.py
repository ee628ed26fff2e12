"""Serving: the servers of others know CodeShell, each run for real where it is installed."""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from codeshell_hf import CodeShellForCausalLM, CodeShellModel
from codeshell_hf.commands.main import main
from codeshell_hf.commands.serve import read_settings
from codeshell_hf.evaluate.endpoint import EndpointGenerator
from codeshell_hf.evaluate.generation import Completion, Question
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.publish.gguf import export_gguf
from codeshell_hf.serve.settings import ServeSettings
from codeshell_hf.text.client import Client
from codeshell_hf.text.sampling import Sampling

ROOT = Path(__file__).parents[2]
LLAMA_SERVER = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
TURNS = [{"role": "user", "content": "add"}]


@pytest.fixture
def folder(learnt_by_heart: Path) -> Path:
    return learnt_by_heart


@contextmanager
def serve(command: list[str], *, health: str = "/health") -> Iterator[str]:
    """Starts a server on a free port of loopback, and ends it.

    Yields:
        Its address.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [part.replace("PORT", str(port)) for part in command]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address + health, timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, process.stdout and process.stdout.read()[-3000:]
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(address: str, values: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        read: dict[str, Any] = json.loads(answer.read())
    return read


@pytest.mark.slow
def test_transformers_serve_and_chat_know_a_published_folder(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codeshell_hf"]
    options = ["--host", "127.0.0.1", "--port", "PORT", "--device", "cpu"]
    with serve([*command, "transformers", "serve", str(folder), *options]) as address:
        values = {"model": str(folder), "max_tokens": 24, "temperature": 0, "stream": False}
        answer = ask(f"{address}/v1/chat/completions", {**values, "messages": TURNS})
        chinese = ask(f"{address}/v1/chat/completions", {**values, "messages": [{"role": "user", "content": "面积"}]})
        completed = ask(f"{address}/v1/completions", {**values, "prompt": "## human:add|<end>|## assistant:"})
        evaluated: dict[str, list[Completion]] = {}
        EndpointGenerator(Client(f"{address}/v1", str(folder), concurrency=1)).generate(
            [
                Question("turn", Prompt("add", is_chat=True), Sampling(24)),
                Question("middle", Prompt("def area(r):\n    return ", "\n"), Sampling(24, samples=2, stops=("\n",))),
            ],
            lambda question, completions: evaluated.update({question.id: completions}),
        )
        chat = subprocess.run(
            [*command, "chat", str(folder), address, "max_new_tokens=24", "do_sample=False", "--save-folder", "."],
            input="add\n!exit\n", capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "COLUMNS": "200"},
        )  # fmt: skip

    assert answer["choices"][0]["message"]["content"] == " return a + b|<end>|"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert chinese["choices"][0]["message"]["content"] == " 返回 r|<end>|"
    assert completed["choices"][0]["text"] == " return a + b|<end>|"
    assert evaluated["turn"][0].text == "return a + b"
    assert [completion.text.strip()[:8] for completion in evaluated["middle"]] == ["3.14 * r"] * 2
    assert chat.returncode == 0, chat.stderr[-2000:]
    assert "return a + b" in chat.stdout


def test_command_line_without_its_needs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("transformers.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.setattr(sys, "argv", ["codeshell"])

    assert main(["transformers", "serve", "x"]) == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'transformers[serving]'")


def test_wrong_calls_of_serve_are_one_line(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        wrong = {
            f"127.0.0.1:{port} cannot be used": [str(folder), "--port", port],
            "cannot be used": [str(folder), "--port", "99999"],
            "--max-rows is 0": [str(folder), "--max-rows", "0"],
            "--api-key is ''": [str(folder), "--api-key", ""],
            "does not exist; name a folder": [str(tmp_path / "missing"), "--port", "0"],
            "does not exist": [str(tmp_path / "missing.gguf")],
            "llama-server is not on the PATH": [str(tmp_path / "model.gguf")],
        }
        for message, arguments in wrong.items():
            assert main(["serve", *arguments]) == 2
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1
    monkeypatch.setattr("codeshell_hf.commands.serve.NEEDED", ("no_such_server",))
    assert main(["serve", str(folder)]) == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'codeshell-hf[serve]'")


def test_loopback_is_called_by_its_names_only_and_the_key_may_be_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(host: str, *words: str) -> ServeSettings:
        options = argparse.Namespace(
            host=host, api_key=None, allow_origin=[], allow_host=list(words), max_rows=3, max_waiting=None
        )
        return read_settings(options)

    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.5"):
        assert {"localhost", "127.0.0.1", host, "proxy"} <= set(read(host, "proxy").allowed_hosts or ())
    assert read("0.0.0.0").allowed_hosts is None  # noqa: S104 - asked for
    assert read("127.0.0.1").key is None
    monkeypatch.setenv("CODESHELL_API_KEY", "secret")
    assert (read("127.0.0.1").key, read("127.0.0.1").max_rows, read("127.0.0.1").max_waiting) == ("secret", 3, 256)


def test_a_gguf_file_is_passed_to_llama_cpp_with_the_key_out_of_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, program = tmp_path / "model.gguf", tmp_path / "llama-server"
    file.write_bytes(b"GGUF")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    monkeypatch.setenv("LLAMA_API_KEY", "")
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execvp", lambda name, words: started.append((name, words)))

    assert main(["serve", str(file), "--port", "8080", "--name", "nano", "--api-key", "secret", "--max-rows", "4"]) == 0

    assert started == [
        (
            str(program),
            [str(program), "--model", str(file), "--host", "127.0.0.1", "--port", "8080", "--alias", "nano",
             "--parallel", "4"],
        )
    ]  # fmt: skip
    assert os.environ["LLAMA_API_KEY"] == "secret"


@pytest.mark.slow
def test_the_server_answers_on_a_socket_and_by_the_chat_command(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codeshell_hf"]
    with serve([*command, "serve", str(folder), "--port", "PORT", "--device", "cpu", "--name", "heart"]) as address:
        values = {"max_tokens": 24, "temperature": 0}
        answer = ask(f"{address}/v1/chat/completions", {**values, "messages": TURNS})
        evaluated: dict[str, list[Completion]] = {}
        EndpointGenerator(Client(f"{address}/v1", "heart", concurrency=4)).generate(
            [
                Question("turn", Prompt("add", is_chat=True), Sampling(24)),
                Question("middle", Prompt("def area(r):\n    return ", "\n"), Sampling(24, samples=2, stops=("\n",))),
            ],
            lambda question, completions: evaluated.update({question.id: completions}),
        )
        chat = subprocess.run(
            [*command, "chat", "heart", address, "max_new_tokens=24", "do_sample=False", "--save-folder", "."],
            input="add\n!exit\n", capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "COLUMNS": "200"},
        )  # fmt: skip
        page = urllib.request.urlopen(address, timeout=10)
        text = page.read().decode()

    assert answer["choices"][0]["message"]["content"] == "return a + b"
    assert evaluated["turn"][0].text == "return a + b"
    assert [completion.text.strip() for completion in evaluated["middle"]] == ["3.14 * r"] * 2
    assert chat.returncode == 0, chat.stderr[-2000:]
    assert "return a + b" in chat.stdout
    assert page.headers["content-security-policy"]
    assert "<textarea" in text


@pytest.mark.slow
def test_clients_that_are_killed_free_their_places_and_the_others_lose_nothing(folder: Path) -> None:
    """Over real sockets: half of 32 clients close theirs in the middle of an endless answer."""
    command = [sys.executable, "-m", "codeshell_hf", "serve", str(folder), "--port", "PORT", "--device", "cpu"]
    with serve([*command, "--max-rows", "16"]) as address:
        port = int(address.rpartition(":")[2])

        def leave(number: int) -> None:
            body = json.dumps({"prompt": [5] * 9, "max_tokens": 140, "stream": number % 2 == 0, "n": 2,
                               "logit_bias": {"300": -100}}).encode()  # fmt: skip
            head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(head.encode() + body)
                if number % 4 == 0:
                    connection.recv(100)

        def stay(number: int) -> str:
            values = {"messages": TURNS, "temperature": 0}
            return str(ask(f"{address}/v1/chat/completions", values)["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(32) as pool:
            left = [pool.submit(leave, number) for number in range(16)]
            texts = list(pool.map(stay, range(16)))
            for each in left:
                each.result()
        deadline = time.monotonic() + 30
        while (health := json.loads(urllib.request.urlopen(f"{address}/health", timeout=10).read()))["active"]:
            assert time.monotonic() < deadline, health
            time.sleep(0.1)

    assert texts == ["return a + b"] * 16
    assert health == {"status": "ok", "active": 0, "waiting": 0}


@pytest.mark.slow
def test_vllm_finds_the_plug_in_and_the_plug_in_makes_it_know_codeshell() -> None:
    """What vLLM does in each process: load the entry point, read the configuration, look the class up by name."""
    (plugin,) = [entry for entry in entry_points(group="vllm.general_plugins") if entry.name == "codeshell"]
    assert plugin.value == "codeshell_hf.publish.vllm:register"
    script = (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        "(plugin,) = [entry for entry in entry_points(group='vllm.general_plugins') if entry.name == 'codeshell']\n"
        "register = plugin.load(); register(); register()\n"
        "import transformers\n"
        "assert transformers.CodeShellForCausalLM is sys.modules['transformers'].CodeShellForCausalLM\n"
        "config = transformers.AutoConfig.from_pretrained(sys.argv[1])\n"
        "model = getattr(transformers, config.architectures[0])\n"
        "print('KNOWN', model.__module__, model.is_backend_compatible())\n"
    )

    golden = ROOT / "tests" / "data" / "golden" / "plain"
    done = subprocess.run(
        [sys.executable, "-c", script, str(golden)], capture_output=True, text=True, check=False, timeout=60
    )

    assert "KNOWN codeshell_hf.modeling_codeshell True" in done.stdout, done.stderr[-2000:]


def test_attention_can_be_replaced_and_gets_what_a_server_passes(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    """VLLM registers an attention of its own and hands it, through the model, one instance a layer."""
    seen: list[int] = []

    def attend(module: Any, query: torch.Tensor, *others: object, **kwargs: Any) -> tuple[torch.Tensor, None]:
        seen.append(kwargs["attention_instances"][module.layer_idx])
        return torch.zeros_like(query).transpose(1, 2), None

    AttentionInterface.register("server", attend)
    model = tiny_model()
    base: CodeShellModel = model.model if hasattr(model, "model") else model.base_model
    base.set_attn_implementation("server")

    base(torch.zeros(1, 4, dtype=torch.long), use_cache=False, attention_instances={0: 7, 1: 9}, return_dict=False)

    assert seen == [7, 9]


@pytest.mark.skipif(LLAMA_SERVER is None, reason="llama-server is not on the path")
def test_llama_server_chats_and_fills_in(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "m.gguf", "f16")
    command = [str(LLAMA_SERVER), "-m", str(tmp_path / "m.gguf"), "--host", "127.0.0.1", "--port", "PORT", "-c", "512"]
    with serve([*command, "--threads", "1"]) as address:
        values = {"messages": TURNS, "max_tokens": 24, "temperature": 0, "stop": ["|<end>|"]}
        answer = ask(f"{address}/v1/chat/completions", values)
        written = ask(
            f"{address}/infill",
            {"input_prefix": "def area(r):\n    return ", "input_suffix": "\n", "n_predict": 24, "temperature": 0},
        )

    assert answer["choices"][0]["message"]["content"].strip() == "return a + b"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert written["content"] == "3.14 * r\n    # end"
