"""Shared by `chat`, `complete` and `serve`: options, loading, and a line on speed."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..modeling_codeshell import CodeShellForCausalLM
    from ..text.sampling import Sampling
    from ..text.stream import Streamed
    from ..tokenization_codeshell import CodeShellTokenizer


SMALL_PARAMETERS = 500_000_000  # in float32 less than 2 GB: taken without asking where it is faster


def add_options(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """Adds options for loading and sampling; `max_new_tokens` is the default of `--max-new-tokens`."""
    parser.add_argument("--max-new-tokens", type=_positive, default=max_new_tokens, metavar="N", help="longest text")
    parser.add_argument("--temperature", type=_up_to(2), default=0.0, metavar="T", help="0 (default): greedy")
    parser.add_argument(
        "--top-p", type=_up_to(1), default=1.0, metavar="P", help="probability mass of nucleus sampling"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same text")
    add_loading_options(parser)


def use_bundled(model: str | None, real: str) -> str:
    """The model that was named, or else the one that comes with this package, with a line that says so.

    `real` is the command with a real model.
    """
    from ..checkpoint_places import bundled, find_bundled

    if model is not None:
        return find_bundled(model)

    print(
        "no model was named: this is codeshell-tiny, which comes with the package and is too small to be right; a real "
        f"one: {real}",
        file=sys.stderr,
    )
    return bundled()


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """Adds options for loading."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; auto uses an accelerator if there is one"
    )
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "float16", "bfloat16"))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; give 1 or more")
    return value


def _up_to(most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is out of range; give 0 to {most}")
        return value

    read.__name__ = "number"  # the type's name in argparse's messages
    return read


def load(folder: str, options: argparse.Namespace) -> "tuple[CodeShellForCausalLM, CodeShellTokenizer]":
    """Loads a model and its tokenizer from a folder or the Hub; `options` has `device` and `dtype`.

    Raises:
        CheckpointError: If either cannot be loaded.
    """
    from ..checkpoint_places import is_folder

    is_folder(folder)  # before what takes seconds to import
    from dataclasses import replace

    import torch
    import transformers

    from ..errors import CheckpointError
    from ..loading import explain_loading, load_model
    from ..precision import choose_precision, warn_if_slow
    from ..tokenization_codeshell import CodeShellTokenizer

    transformers.utils.logging.disable_progress_bar()
    dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
    model = load_model(folder, dtype=dtype)
    if model.generation_config is not None:  # the command line decides the sampling, not the folder
        model.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)
    try:
        with explain_loading(folder):
            tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except CheckpointError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        raise CheckpointError(
            f"{folder} has no readable tokenizer ({reason}); name a folder with a model and its tokenizer"
        ) from error
    device = options.device
    if device == "auto":
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    if options.dtype == "auto" and str(device) == "cpu" and model.dtype == torch.bfloat16:
        precision = choose_precision("auto", model.config, torch.device("cpu"), trains=False)
        if model.num_parameters() <= SMALL_PARAMETERS:
            model = model.to(precision.dtype)
        else:
            advice = "pass --dtype float32, which takes twice the memory"
            warn_if_slow(replace(precision, compute_dtype="bfloat16"), torch.device("cpu"), advice=advice)
    try:
        return model.to(device), tokenizer
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        advice = "pass --device cpu, or leave it out"
        raise CheckpointError(f"--device {device} cannot be used ({reason}); {advice}") from error


def make_sampling(options: argparse.Namespace) -> "Sampling":
    """Makes the sampling parameters."""
    from ..text.sampling import Sampling

    return Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed)


def print_speed(written: "Streamed") -> None:
    """Prints tokens per second, if stderr is a terminal."""
    if sys.stderr.isatty():
        rate = written.tokens / max(written.seconds, 1e-9)
        end = "" if written.is_finished else ", not finished"
        print(f"[{written.tokens} tokens, {rate:.0f} per second{end}]", file=sys.stderr)
