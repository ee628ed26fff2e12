"""Brings a released CodeShell folder (base, chat, 4-bit chat) to today's transformers.

python -m recipes.convert path/to/CodeShell-7B-Chat runs/codeshell-7b-chat
python -m recipes.convert WisdomShell/CodeShell-7B runs/codeshell-7b --dtype bfloat16
"""

import sys
from pathlib import Path
from typing import Any

from codeshell_hf.stages.process import make_parser, run

DTYPES = ("auto", "float32", "float16", "bfloat16")


def main(arguments: list[str] | None = None) -> int:
    """Converts, and says what was checked.

    Args:
        arguments: The command line; by default this process's.

    Returns:
        0 done, 1 the new folder answers differently, 2 called wrongly.
    """
    parser = make_parser("convert", __doc__)
    parser.add_argument("source", help="a released folder, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must not be there yet")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="of the weights (default: as they are)")
    parser.add_argument("--max-shard-size", default="5GB", help="largest file of weights (default %(default)s)")
    options = parser.parse_args(arguments)

    def work() -> None:
        print(
            *convert(options.source, options.output, dtype=options.dtype, max_shard_size=options.max_shard_size),
            sep="\n",
        )

    return run("convert", work)


def convert(source: str, output: Path, *, dtype: str = "auto", max_shard_size: str = "5GB") -> list[str]:
    """Converts a folder; the output appears when it is whole and checked.

    Args:
        source: A released folder, or its name on the Hub.
        output: Folder to write.
        dtype: One of `DTYPES`.
        max_shard_size: Largest file of weights, as in transformers.

    Returns:
        Lines that say what was done.

    Raises:
        DataError: If the output is there already.
        CheckpointError: If the source cannot be read.
        RunFailed: If what was written has other weights or logits.
    """
    import shutil

    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import CheckpointError, DataError, RunFailed
    from codeshell_hf.publish.folder import find_other_weights, load_as_a_stranger, probe, save_folder
    from codeshell_hf.publish.four_bits import is_four_bits
    from codeshell_hf.publish.tensors import Tensors
    from codeshell_hf.train.weights import load_model

    if output.exists():
        raise DataError(f"{output} is there already; name a folder that is not")
    folder = fetch(source)
    tensors = Tensors(folder)
    asked: Any = dtype if dtype == "auto" else getattr(torch, dtype)
    has_four_bits = is_four_bits(tensors)
    model = dequantize(folder, tensors, asked) if has_four_bits else load_model(str(folder), dtype=asked)
    try:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{folder} has no tokenizer.json that can be read ({reason}); fetch it") from error

    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_folder(model, tokenizer, partial, max_shard_size=max_shard_size)
        if other := find_other_weights(model, partial):
            raise RunFailed(f"{other} was written otherwise than it was read; is the disk sound?")
        difference = compare(probe(model), load_as_a_stranger(partial)["probe"])
        if difference > 1e-3:
            raise RunFailed(
                f"the logits of {output} differ by {difference:.1e}; this is a fault of ours, please report it"
            )
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    number = sum(parameter.numel() for parameter in model.parameters())
    kind = f"{'4-bit, dequantised, ' if has_four_bits else ''}{'pickled' if tensors.is_pickled else 'safetensors'}"
    tied = "tied" if model.config.tie_word_embeddings else "untied"
    lines = [
        f"read {folder}: {kind}",
        f"wrote {output}: {number:,} parameters in {next(model.parameters()).dtype}, {tied}",
        f"logits before and after differ by {difference:.1e}; loads with transformers alone",
    ]
    if tensors.is_pickled and not has_four_bits:
        lines.append("pickled weights of some mirrors are known to be wrong: prefer a folder with safetensors")
    if any(getattr(model.config, name) for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop")):
        lines.append("its configuration has dropout, which is active in training: set it to 0 there unless you want it")
    return lines


def fetch(source: str) -> Path:
    """Finds a folder, or fetches it from the Hub, without its code.

    Args:
        source: A folder, or a name on the Hub.

    Returns:
        The folder.

    Raises:
        CheckpointError: If there is neither.
    """
    from huggingface_hub import snapshot_download

    from codeshell_hf.errors import CheckpointError

    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, ignore_patterns=["*.py", "*.gguf", "*.md"]))
    except Exception as error:  # the Hub's client has a kind for every refusal
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{source} is no folder, and the Hub has it not ({reason}); name a folder") from error


def dequantize(folder: Path, tensors: Any, dtype: Any) -> Any:
    """Loads a 4-bit release as a plain model.

    Args:
        folder: Its folder.
        tensors: Its entries.
        dtype: A torch dtype, or "auto".

    Returns:
        The model.

    Raises:
        CheckpointError: If weights are missing.
    """
    import torch
    from tqdm import tqdm

    from codeshell_hf import CodeShellConfig, CodeShellForCausalLM
    from codeshell_hf.errors import CheckpointError
    from codeshell_hf.publish.four_bits import dequantize_checkpoint

    config = CodeShellConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    kept = config.dtype if dtype == "auto" else dtype
    with tqdm(desc="dequantize", unit="tensor", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        state = dequantize_checkpoint(tensors, dtype=kept or torch.float16, on_progress=show)
    state = {name: value for name, value in state.items() if not name.endswith("rotary_emb.inv_freq")}
    with torch.device("meta"):
        model = CodeShellForCausalLM(config)
    missing = set(model.state_dict()) - set(state)
    if (
        config.tie_word_embeddings
        and (lacking := missing & {"lm_head.weight", "transformer.wte.weight"})
        and len(lacking) == 1
    ):
        missing -= lacking
    if missing:
        raise CheckpointError(f"{folder} lacks {sorted(missing)[0]}; name a whole checkpoint")
    loaded, report = CodeShellForCausalLM.from_pretrained(
        None, config=config, state_dict=state, dtype=kept or torch.float16, output_loading_info=True
    )
    if report["mismatched_keys"] or report["missing_keys"]:
        raise CheckpointError(f"{folder} does not have the shapes that its config.json says; name a whole checkpoint")
    return loaded.eval()


def compare(before: list[float], after: list[float]) -> float:
    """The largest difference.

    Args:
        before: Numbers.
        after: As many.

    Returns:
        Of two of them.
    """
    return max(abs(a - b) for a, b in zip(before, after, strict=True))


if __name__ == "__main__":
    sys.exit(main())
