"""Converts released CodeShell folders (base, chat, 4-bit chat) for current transformers."""

import shutil
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from tqdm import tqdm

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError, DataError
from ..loading import explain_loading, load_model
from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer
from .folder import save_folder, verify_folder
from .four_bits import dequantize_checkpoint, is_four_bits
from .tensors import Tensors

MAX_DIFFERENCE = 1e-3  # of logits before and after


def convert(source: str, output: Path, *, dtype: str = "auto", max_shard_size: str = "5GB") -> list[str]:
    """Converts a folder; the output appears once it is complete and checked.

    Args:
        source: A released folder, or its name on the Hub.
        output: Folder to write.
        dtype: "auto", or the name of a torch dtype.
        max_shard_size: Largest file of weights, as in transformers.

    Returns:
        Lines to print.

    Raises:
        DataError: If the output exists.
        CheckpointError: If the source cannot be read.
        RunFailed: If the written weights or logits differ.
    """
    if output.exists():
        raise DataError(f"{output} exists already; name another folder")
    folder = fetch(source)
    tensors = Tensors(folder)
    asked = None if dtype == "auto" else getattr(torch, dtype)
    has_four_bits = is_four_bits(tensors)
    model = load_four_bits(folder, tensors, asked) if has_four_bits else load_model(str(folder), dtype=asked or "auto")
    try:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{folder} has no readable tokenizer.json ({reason}); download it") from error

    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_folder(model, tokenizer, partial, max_shard_size=max_shard_size)
        _, difference = verify_folder(model, partial, max_difference=MAX_DIFFERENCE)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

    number = sum(parameter.numel() for parameter in model.parameters())
    kind = f"{'4-bit, dequantised, ' if has_four_bits else ''}{'pickled' if tensors.is_pickled else 'safetensors'}"
    tied = "tied" if model.config.tie_word_embeddings else "untied"
    lines = [
        f"read {folder}: {kind}",
        f"wrote {output}: {number:,} parameters in {next(model.parameters()).dtype}, {tied}",
        f"logits before and after differ by {difference:.1e}; loads without codeshell_hf",
    ]
    if tensors.is_pickled and not has_four_bits:
        lines.append("some mirrors have wrong pickled weights: prefer a folder with safetensors")
    if any(getattr(model.config, name) for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop")):
        lines.append("the configuration has dropout, which is active in training: set it to 0 unless you want it")
    return lines


def fetch(source: str) -> Path:
    """Finds a folder, or downloads it from the Hub, without code.

    Raises:
        CheckpointError: If it is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    with explain_loading(source):
        return Path(snapshot_download(source, ignore_patterns=["*.py", "*.gguf", "*.md"]))


def load_four_bits(folder: Path, tensors: Tensors, dtype: torch.dtype | None) -> CodeShellForCausalLM:
    """Loads a 4-bit release as a plain model.

    Args:
        folder: The release.
        tensors: Its entries.
        dtype: Of the weights; `None` for the configuration's, or else float16.

    Raises:
        CheckpointError: If weights are missing or of another shape.
    """
    config = CodeShellConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    dtype = dtype or config.dtype or torch.float16
    with tqdm(desc="dequantize", unit="tensor", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        state = dequantize_checkpoint(tensors, dtype=dtype, on_progress=show)
    state = {name: value for name, value in state.items() if not name.endswith("rotary_emb.inv_freq")}
    with torch.device("meta"):
        model = CodeShellForCausalLM(config)
    missing = set(model.state_dict()) - set(state)
    embeddings = missing & {"lm_head.weight", "transformer.wte.weight"}
    if config.tie_word_embeddings and len(embeddings) == 1:
        missing -= embeddings
    if missing:
        raise CheckpointError(f"{folder} lacks {sorted(missing)[0]}; name a complete checkpoint")
    loaded, report = CodeShellForCausalLM.from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
    )
    if report["mismatched_keys"] or report["missing_keys"]:
        raise CheckpointError(f"{folder} has other shapes than its config.json says; name a complete checkpoint")
    plain: CodeShellForCausalLM = loaded.eval()
    return plain
