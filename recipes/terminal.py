"""What the two commands that write in a terminal share: options, loading, and how fast it went."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeshell_hf.text.decode import Sampling, Streamed


def add_options(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """Adds the options of loading and drawing.

    Args:
        parser: The command's.
        max_new_tokens: Its default.
    """
    parser.add_argument("--max-new-tokens", type=_positive, default=max_new_tokens, metavar="N", help="longest text")
    parser.add_argument("--temperature", type=_share(2), default=0.0, metavar="T", help="0 (default): the likeliest")
    parser.add_argument("--top-p", type=_share(1), default=1.0, metavar="P", help="share of the probability drawn from")
    parser.add_argument("--seed", type=int, help="the same seed gives the same text")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes what there is")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "float16", "bfloat16"))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too few; give 1 or more")
    return value


def _share(most: float) -> Any:
    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is out of range; give 0 to {most}")
        return value

    read.__name__ = "number"
    return read


def load(folder: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Loads a model and its tokenizer.

    Args:
        folder: A folder or a Hub name.
        options: With `device` and `dtype`.

    Returns:
        Model and tokenizer.

    Raises:
        CheckpointError: If either cannot be loaded.
    """
    from dataclasses import replace

    import torch
    import transformers

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import CheckpointError
    from codeshell_hf.precision import choose_precision, warn_if_slow
    from codeshell_hf.train.weights import load_model

    transformers.utils.logging.disable_progress_bar()
    dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
    model = load_model(folder, dtype=dtype)
    if model.generation_config is not None:  # what the folder draws by is not what was asked for here
        model.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)
    try:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{folder} has no tokenizer that can be read ({reason})") from error
    device = options.device
    if device == "auto":
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    if options.dtype == "auto" and str(device) == "cpu" and model.dtype == torch.bfloat16:
        found = choose_precision("auto", model.config, torch.device("cpu"), trains=False)
        warn_if_slow(replace(found, arithmetic="bfloat16"), torch.device("cpu"), mend="pass --dtype float32")
    try:
        return model.to(device), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"--device {device} cannot be used ({' '.join(str(error).split())[:120]})") from error


def make_sampling(options: argparse.Namespace) -> "Sampling":
    """Reads how tokens are drawn.

    Args:
        options: The command line.

    Returns:
        The sampling.
    """
    from codeshell_hf.text.decode import Sampling

    return Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed)


def print_speed(written: "Streamed") -> None:
    """Prints how fast it went, where a person looks on.

    Args:
        written: What was written.
    """
    if sys.stderr.isatty():
        rate = written.tokens / max(written.seconds, 1e-9)
        end = "" if written.is_finished else ", not finished"
        print(f"[{written.tokens} tokens, {rate:.0f} a second{end}]", file=sys.stderr)
