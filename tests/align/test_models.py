"""Tokenizers, weights and attention of the stages of alignment."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.models import choose_attention, choose_weights, load_policy, open_tokenizer
from codeshell_hf.align.settings import PolicySettings
from codeshell_hf.errors import CheckpointError, SettingsError


def test_special_tokens_in_a_prompt_are_letters_for_the_trainer_too(
    tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    tokenizer = open_tokenizer(tmp_path)

    ids = tokenizer.apply_chat_template([{"role": "user", "content": "<|endoftext|>"}], return_dict=True)["input_ids"]

    assert tokenizer.eos_token_id not in ids


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        open_tokenizer(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand, so four bits may be too")
def test_four_bits_without_a_gpu_are_refused() -> None:
    assert choose_weights(None, bf16=True, fp16=False) == {"dtype": torch.float32}
    with pytest.raises(SettingsError, match=r"adapter\.quantization is 4bit, which needs a GPU and bitsandbytes"):
        choose_weights("4bit", bf16=True, fp16=False)


def test_attention_that_is_asked_for_is_taken() -> None:
    assert choose_attention("eager") == "eager"
    assert choose_attention("auto") in ("sdpa", "flash_attention_2")


def test_weights_that_are_trained_are_float32_whatever_they_were_saved_in(
    tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path
) -> None:
    saved = tiny_model().to(torch.bfloat16)
    saved.save_pretrained(tmp_path)

    policy = load_policy(PolicySettings(model=tmp_path, attention="eager"), bf16=True, fp16=False)

    assert policy.config._attn_implementation == "eager"
    weights = saved.state_dict()
    for name, weight in policy.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weights[name].float())
