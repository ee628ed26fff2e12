"""Folders as `publish` writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.publish.folder import save_folder


@pytest.fixture
def published(
    tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> tuple[Path, CodeShellForCausalLM]:
    """A folder, and the model in it."""
    end = tiny_tokenizer.eos_token_id
    model = tiny_model(
        n_embd=64, activation_function="swiglu", sliding_window=8, eos_token_id=end, bos_token_id=end, pad_token_id=end
    )
    save_folder(model, tiny_tokenizer, tmp_path / "model")
    return tmp_path / "model", model
