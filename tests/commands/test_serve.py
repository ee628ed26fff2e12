"""Serving: the servers of others know CodeShell, each run for real where it is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from codeshell_hf import CodeShellForCausalLM, CodeShellModel
from codeshell_hf.commands.main import main
from codeshell_hf.evaluate.endpoint import EndpointGenerator
from codeshell_hf.evaluate.generation import Completion, Question
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.publish.gguf import export_gguf
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
    with serve([*command, "serve", str(folder), "--host", "127.0.0.1", "--port", "PORT", "--device", "cpu"]) as address:
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

    assert main(["serve", "x"]) == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'transformers[serving]'")


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
