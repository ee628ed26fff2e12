"""Gives a model another tokenizer: rows of tokens that both have are copied, new ones start from their pieces.

python -m tokenizer.transplant MODEL TOKENIZER OUTPUT [--text FILE]
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CodeShellError

ROWS_DIVIDE_BY = 128


@dataclass(frozen=True)
class Transplant:
    """How the rows of the new embedding were made.

    Args:
        kept: Rows copied from the same token.
        pieced: Rows that are the mean of the old pieces of a new token.
        padded: Rows beyond the vocabulary, the mean of all.
    """

    kept: int
    pieced: int
    padded: int


def count_rows(vocab_size: int) -> int:
    """The rows of an embedding for a vocabulary, padded to a multiple of 128, which suits matrix kernels and ranks.

    >>> count_rows(70_020)
    70144
    """
    return -(-vocab_size // ROWS_DIVIDE_BY) * ROWS_DIVIDE_BY


@torch.no_grad()
def transplant(model: CodeShellForCausalLM, old: CodeShellTokenizer, new: CodeShellTokenizer) -> Transplant:
    """Exchanges the embedding and the output layer of a model for those of another vocabulary.

    Args:
        model: Changed in place, and so is its configuration.
        old: The tokenizer that it was trained with.
        new: The tokenizer that it gets.
    """
    old_ids = old.get_vocab()
    new_tokens = sorted(new.get_vocab().items(), key=lambda item: item[1])
    sources: list[list[int]] = []
    for token, _ in new_tokens:
        if token in old_ids:
            sources.append([old_ids[token]])
        else:
            # In byte-level letters: pieces need not be whole characters.
            sources.append([piece.id for piece in old.backend_tokenizer.model.tokenize(token)])
    rows = count_rows(len(new_tokens))
    embedding = nn.Embedding(rows, model.config.n_embd, dtype=model.transformer.wte.weight.dtype)
    embedding.weight.copy_(_move_rows(model.transformer.wte.weight, sources, rows, len(old)))
    output = None
    if not model.config.tie_word_embeddings:
        output = nn.Linear(model.config.n_embd, rows, bias=False, dtype=embedding.weight.dtype)
        output.weight.copy_(_move_rows(model.lm_head.weight, sources, rows, len(old)))
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(output or nn.Linear(model.config.n_embd, rows, bias=False))
    model.config.vocab_size = model.vocab_size = rows
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, new.eos_token_id)
        if model.generation_config is not None:
            setattr(model.generation_config, name, new.eos_token_id)
    model.tie_weights()
    kept = sum(token in old_ids for token, _ in new_tokens)
    return Transplant(kept, len(new_tokens) - kept, rows - len(new_tokens))


def _move_rows(weight: Tensor, sources: list[list[int]], rows: int, old_entries: int) -> Tensor:
    mean = weight[:old_entries].float().mean(0)
    moved = mean.expand(rows, -1).clone()  # (rows, D)
    for row, pieces in enumerate(sources):
        if pieces:
            moved[row] = weight[pieces].float().mean(0)
    return moved.to(weight.dtype)


def measure_bits(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, text: str) -> float:
    """Measures bits per byte of a text."""
    import numpy as np

    from codeshell_hf.text.bits_per_byte import score_documents

    documents = [("text", np.array(tokenizer.encode_text(text)), len(text.encode("utf-8")))]
    window = min(1024, model.config.n_positions)
    return score_documents(model.eval(), documents, window_tokens=window, vocab_size=len(tokenizer))[
        "all"
    ].bits_per_byte


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tokenizer.transplant", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model, with its tokenizer")
    parser.add_argument("tokenizer", type=Path, help="folder of the tokenizer that it gets")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--text", type=Path, help="measure bits per byte on it before and after")
    options = parser.parse_args(arguments)
    from codeshell_hf.loading import load_model

    try:
        model = load_model(str(options.model), dtype=torch.float32)
        old, new = (CodeShellTokenizer.from_pretrained(path) for path in (options.model, options.tokenizer))
        text = options.text.read_text(encoding="utf-8") if options.text else None
        before = measure_bits(model, old, text) if text else None
        moved = transplant(model, old, new)
        model.save_pretrained(options.output)
        new.save_pretrained(options.output)
    except (CodeShellError, OSError) as error:
        print(f"transplant: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(f"rows: {moved.kept:,} kept, {moved.pieced:,} from pieces, {moved.padded:,} padding")  # noqa: T201
    if text:
        print(f"bits per byte {before:.3f} -> {measure_bits(model, new, text):.3f}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
