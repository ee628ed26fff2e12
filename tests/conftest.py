"""Factories that the tests share, and the list of what was skipped."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: with a thread for each core in each of them, torch waits more than it computes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    torch.set_num_threads(1)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from tokenizer.bpe import train_bpe

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[1].parent / "shared"

TEXTS = [
    "def area(radius):\n    return 3.14159 * radius ** 2\n",
    "for (int i = 0; i < 10; i++) { sum += values[i]; }\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n",
    "    def push(self, item):\n        self.items.append(item)\n",
    "# 返回两个数的和\ndef add(a, b):\n    return a + b\n",
]

requires_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention on a CPU needs g++")
FLEX = pytest.param("flex_attention", marks=requires_compiler)


@pytest.fixture
def make_config() -> Callable[..., CodeShellConfig]:
    def make(**changes: object) -> CodeShellConfig:
        settings = {
            "vocab_size": 320,
            "n_positions": 64,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "num_query_groups": 2,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        return CodeShellConfig(**(settings | changes))

    return make


@pytest.fixture
def tiny_model(make_config: Callable[..., CodeShellConfig]) -> Callable[..., CodeShellForCausalLM]:
    def make(attention: str = "sdpa", seed: int = 0, **changes: object) -> CodeShellForCausalLM:
        torch.manual_seed(seed)
        model = CodeShellForCausalLM._from_config(make_config(**changes), attn_implementation=attention)
        with torch.no_grad():  # away from the calm of a fresh initialisation, so that differences show
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer() -> CodeShellTokenizer:
    return train_bpe(iter(TEXTS * 20), vocab_size=320)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Writes what was skipped, by name, to the file that CI compares with a committed one."""
    path = os.environ.get("SKIPPED_TESTS_FILE")
    if path:
        skipped = {report.nodeid for report in terminalreporter.stats.get("skipped", [])}
        Path(path).write_text("".join(f"{name}\n" for name in sorted(skipped)), encoding="utf-8")
