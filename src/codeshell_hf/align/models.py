"""How the alignment stages load tokenizers, weights and attention."""

import importlib.util
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from transformers import BitsAndBytesConfig

from ..errors import CheckpointError, SettingsError
from ..loading import load_model
from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer
from .settings import PolicySettings


def open_tokenizer(folder: Path) -> CodeShellTokenizer:
    """Opens a tokenizer that encodes special tokens within a text as plain text, for training and sampling.

    Saved models get a copy of the folder's own tokenizer files.

    Raises:
        CheckpointError: If the folder has no tokenizer.
    """
    try:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder} has no tokenizer ({reason}); name a folder with a model and its tokenizer"
        ) from error
    tokenizer.split_special_tokens = True
    return tokenizer


def choose_attention(asked: str) -> str:
    """Transformers' name of the attention to use; "auto" is FlashAttention 2 on a GPU where installed, else SDPA."""
    if asked != "auto":
        return asked
    has_flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if has_flash else "sdpa"


class Weights(TypedDict):
    """Options of `from_pretrained`."""

    dtype: torch.dtype
    quantization_config: NotRequired[BitsAndBytesConfig]


def choose_weights(quantization: str | None, *, bf16: bool, fp16: bool) -> Weights:
    """Chooses how weights are loaded: in float32, or frozen in 4 bits (NF4) with products in the trainer's precision.

    Raises:
        SettingsError: If 4 bits are requested without a GPU or bitsandbytes.
    """
    if quantization is None:
        return {"dtype": torch.float32}
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise SettingsError(
            "adapter.quantization is 4bit, which needs a GPU and bitsandbytes; run where both exist, "
            "or set adapter.quantization: null"
        )
    dtype = torch.bfloat16 if bf16 else torch.float16 if fp16 else torch.float32
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"dtype": dtype, "quantization_config": nf4}


def load_policy(policy: PolicySettings, *, bf16: bool, fp16: bool) -> CodeShellForCausalLM:
    """Loads the model that is trained, its weights in float32 unless they are frozen in four bits."""
    weights = choose_weights(policy.adapter.quantization if policy.adapter else None, bf16=bf16, fp16=fp16)
    return load_model(str(policy.model), attn_implementation=choose_attention(policy.attention), **weights)
