"""Factories that the tests share, and the list of what was skipped."""

import copy
import getpass
import json
import os
import re
import shutil
import tempfile
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
# Kernels compiled for AVX-512 are found again, and wrong, where the environment makes the processor one of AVX2.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    f"{tempfile.gettempdir()}/torchinductor-{getpass.getuser()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'native')}",
)
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed wonders aloud, among what commands print

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.publish.folder import save_folder
from codeshell_hf.text.chat import Conversation, encode_conversation, pad_rows
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
        model: CodeShellForCausalLM = CodeShellForCausalLM._from_config(
            make_config(**changes), attn_implementation=attention
        )
        with torch.no_grad():  # away from the calm of a fresh initialisation, so that differences show
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.eval()
        return model

    return make


@pytest.fixture(scope="session")
def shared_tokenizer() -> CodeShellTokenizer:
    """For fixtures that outlive a test; nothing may change it."""
    return train_bpe(iter(TEXTS * 20), vocab_size=320)


@pytest.fixture
def tiny_tokenizer(shared_tokenizer: CodeShellTokenizer) -> CodeShellTokenizer:
    """A test's own, since transformers' pipelines pad on the left from then on."""
    return copy.deepcopy(shared_tokenizer)


@pytest.fixture(scope="session")
def learnt_by_heart(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    """A published model that knows two answers and one middle: "add", "面积", and what `area` returns."""
    torch.manual_seed(0)
    end = shared_tokenizer.eos_token_id
    config = CodeShellConfig(
        vocab_size=320, n_positions=160, n_embd=64, n_layer=2, n_head=4, num_query_groups=2,
        eos_token_id=end, bos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = CodeShellForCausalLM(config)
    said = (("add", "return a + b"), ("面积", "返回 r"))
    rows = [
        encode_conversation(
            shared_tokenizer, Conversation(({"role": "user", "content": a}, {"role": "assistant", "content": b}))
        ).ids
        for a, b in said
    ]
    infilling = shared_tokenizer.encode_infilling("def area(r):\n    return ", "\n")
    rows.append([*infilling, *shared_tokenizer.encode_text("3.14 * r\n    # end"), end])
    ids, mask = pad_rows(rows, end, side="right")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.5
    folder = tmp_path_factory.mktemp("by-heart") / "model"
    save_folder(model.eval(), shared_tokenizer, folder)
    return folder


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as it was released: pickled weights, the type `kclgpt`, `GPT2Tokenizer`, code that no longer runs."""
    folder = tmp_path / "released"
    shutil.copytree(DATA / "golden" / "plain", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "kclgpt", "attn_pdrop": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    train_bpe(iter(TEXTS * 20), vocab_size=config["vocab_size"]).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenization_codeshell.py").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "GPT2Tokenizer", "clean_up_tokenization_spaces": True, "eos_token": "<|endoftext|>"}
        )
    )
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Writes what was skipped, by name, to the file that CI compares with a committed one."""
    path = os.environ.get("SKIPPED_TESTS_FILE")
    if path:
        skipped = {name_skipped(report) for report in terminalreporter.stats.get("skipped", [])}
        Path(path).write_text("".join(f"{name}\n" for name in sorted(skipped)), encoding="utf-8")


def name_skipped(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The test's name; of Hugging Face's, whose names differ by release, the reason."""
    file, _, _ = report.nodeid.partition("::")
    if file == "tests/test_hugging_face.py" and isinstance(report.longrepr, tuple):
        return f"{file}: {report.longrepr[2].removeprefix('Skipped: ')}"
    # Where groups are kept together, the name of the group stands behind the test's.
    return re.sub(r"@[a-z]+$", "", report.nodeid)
