"""Gives a model another tokenizer: copies the embeddings of shared tokens, and initialises new ones from old tokens.

python -m tokenizer.transplant MODEL TOKENIZER OUTPUT [--focus TEXTS] [--text FILE]
"""

import argparse
import copy
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CodeShellError

from .corpus import read_source
from .focus import make_vectors, weigh_neighbours
from .vocabulary import BYTES, to_bytes

ROWS_DIVIDE_BY = 128
BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's
LETTERS = {byte: letter for letter, byte in BYTES.items()}
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Transplant:
    """How the rows of the new embedding were initialised.

    Args:
        kept: Rows copied from the token with the same bytes.
        focused: Rows of new tokens made by FOCUS, from tokens in similar contexts.
        pieced: Rows of other new tokens: the mean of the old tokens into which their bytes are split.
        unknown: New tokens that the old vocabulary cannot represent; their rows are the mean of all.
        padded: Rows beyond the vocabulary, the mean of all.
    """

    kept: int
    focused: int
    pieced: int
    unknown: tuple[str, ...]
    padded: int

    def __str__(self) -> str:
        parts = [f"{self.kept:,} kept", f"{self.pieced:,} from pieces", f"{self.padded:,} padding"]
        if self.focused:
            parts.insert(1, f"{self.focused:,} from tokens in similar contexts")
        if self.unknown:
            parts.append(f"{len(self.unknown):,} the mean of all, such as {', '.join(map(repr, self.unknown[:5]))}")
        return ", ".join(parts)


class Spelling:
    """A vocabulary by the bytes of its entries, so that vocabularies of different kinds can be compared.

    Args:
        tokenizer: A byte-level BPE, whose entries have one letter per byte, or SentencePiece's unigram model, whose
            entries are text, or bytes such as `<0x0A>`.
    """

    def __init__(self, tokenizer: CodeShellTokenizer) -> None:
        self._model = tokenizer.backend_tokenizer.model
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        self._is_byte_level = any(step["type"] == "ByteLevel" for step in _list_steps(described["pre_tokenizer"]))
        self._has_bytes = bool(described["model"].get("byte_fallback"))
        self._unknown = described["model"].get("unk_id")
        self._added = {index: token.special for index, token in tokenizer.added_tokens_decoder.items()}
        self.tokens = {index: token for token, index in tokenizer.get_vocab().items()}
        self.meanings = {index: self._read(token, index) for index, token in self.tokens.items()}
        # Text comes after SentencePiece's byte pieces and replaces them, since it is used first in encoding.
        order = sorted(self.tokens, key=lambda index: not self._is_byte(self.tokens[index]))
        self.ids = {meaning: index for index in order if (meaning := self.meanings[index]) is not None}

    def cut(self, data: bytes) -> list[int]:
        """Splits bytes into tokens, as within a word; returns none if the vocabulary cannot represent them."""
        if self._is_byte_level:
            pieces = [piece.id for piece in self._model.tokenize("".join(LETTERS[byte] for byte in data))]
        else:
            pieces = []
            # Incomplete characters can only be represented byte by byte.
            for part in re.split("([\udc80-\udcff])", data.decode("utf-8", errors="surrogateescape")):
                if re.fullmatch("[\udc80-\udcff]", part):
                    pieces.append(self.ids.get(part.encode("utf-8", errors="surrogateescape"), -1))
                elif part:
                    pieces += [piece.id for piece in self._model.tokenize(part)]
        written = [meaning for piece in pieces if isinstance(meaning := self.meanings.get(piece), bytes)]
        return pieces if len(written) == len(pieces) and b"".join(written) == data else []

    def _is_byte(self, token: str) -> bool:
        return self._has_bytes and BYTE_PIECE.fullmatch(token) is not None

    def _read(self, token: str, index: int) -> bytes | str | None:
        """The bytes of a token, the name of a special token, or `None` for the unknown piece."""
        if index in self._added:
            return token if self._added[index] else token.encode("utf-8")
        if self._is_byte_level:
            return to_bytes(token)
        if self._is_byte(token):
            return bytes([int(token[3:5], 16)])
        return None if index == self._unknown else token.encode("utf-8")


def _list_steps(steps: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [] if steps is None else steps.get("pretokenizers", [steps])


def count_rows(vocab_size: int) -> int:
    """Rows of an embedding for a vocabulary: padded to a multiple of 128, for matrix kernels and sharding.

    >>> count_rows(70_020)
    70144
    """
    return -(-vocab_size // ROWS_DIVIDE_BY) * ROWS_DIVIDE_BY


def find_sources(old: CodeShellTokenizer, new: CodeShellTokenizer) -> list[list[int]]:
    """Finds old tokens for each new id: one with the same bytes, or the pieces of its bytes, or none."""
    before, after = Spelling(old), Spelling(new)
    sources: list[list[int]] = []
    for index in range(len(new)):
        meaning = after.meanings.get(index)
        if meaning in before.ids:
            sources.append([before.ids[meaning]])
        else:
            sources.append(before.cut(meaning) if isinstance(meaning, bytes) else [])
    return sources


@torch.no_grad()
def transplant(
    model: CodeShellForCausalLM, old: CodeShellTokenizer, new: CodeShellTokenizer, *, focus: Iterable[str] = ()
) -> Transplant:
    """Replaces the embedding and the output layer of a model for another vocabulary.

    Args:
        model: Changed in place, with its configuration.
        old: The tokenizer that it was trained with.
        new: Its new tokenizer.
        focus: Texts for FOCUS, if any. New tokens that are too rare in them are initialised from pieces, and so are
            all if no kept token is frequent enough.
    """
    sources = find_sources(old, new)
    mixed, anchors, vectors = _compare(new, sources, focus)
    origins = torch.tensor([sources[anchor][0] for anchor in anchors.tolist()], dtype=torch.int64)
    rows = count_rows(len(sources))

    def move(weight: Tensor) -> Tensor:
        moved = weight[: len(old)].float().mean(0).expand(rows, -1).clone()  # (rows, D)
        for row, pieces in enumerate(sources):
            if pieces:
                moved[row] = weight[pieces].float().mean(0)
        for first in range(0, len(mixed), ROWS_AT_ONCE):
            part = mixed[first : first + ROWS_AT_ONCE]
            moved[part] = weigh_neighbours(vectors[part], vectors[anchors]) @ weight[origins].float()
        return moved.to(weight.dtype)

    embedding = nn.Embedding(rows, model.config.n_embd, dtype=model.transformer.wte.weight.dtype)
    embedding.weight.copy_(move(model.transformer.wte.weight))
    output = None
    if not model.config.tie_word_embeddings:
        output = nn.Linear(model.config.n_embd, rows, bias=False, dtype=embedding.weight.dtype)
        output.weight.copy_(move(model.lm_head.weight))
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(output or nn.Linear(model.config.n_embd, rows, bias=False))
    model.config.vocab_size = model.vocab_size = rows
    tokens = {"bos_token_id": new.eos_token_id, "eos_token_id": new.eos_token_id, "pad_token_id": new.pad_token_id}
    for name, value in tokens.items():
        setattr(model.config, name, value)
        if model.generation_config is not None:
            setattr(model.generation_config, name, value)
    model.tie_weights()
    is_mixed = set(mixed.tolist())
    unknown = [index for index, pieces in enumerate(sources) if not pieces and index not in is_mixed]
    kept = sum(len(pieces) == 1 for pieces in sources)
    return Transplant(
        kept=kept,
        focused=len(is_mixed),
        pieced=len(sources) - kept - len(is_mixed) - len(unknown),
        unknown=tuple(str(new.convert_ids_to_tokens(index)) for index in unknown),
        padded=rows - len(sources),
    )


def _compare(new: CodeShellTokenizer, sources: list[list[int]], texts: Iterable[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of new tokens and of kept tokens that are frequent enough in texts, and the vectors of all tokens."""
    encoded = [np.asarray(new.encode_text(text), np.int64) for text in texts]
    if encoded:
        vectors, known = make_vectors(np.concatenate(encoded), len(sources))
        is_kept = torch.tensor([len(pieces) == 1 for pieces in sources])
        mixed, anchors = (known & ~is_kept).nonzero()[:, 0], (known & is_kept).nonzero()[:, 0]
        if len(anchors):
            return mixed, anchors, vectors
    return (nothing := torch.zeros(0, dtype=torch.int64)), nothing, torch.zeros(0, 0)


def measure_bits(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, text: str) -> float:
    """Measures bits per byte of a text."""
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
    parser.add_argument("tokenizer", type=Path, help="folder of its new tokenizer")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--focus", type=Path, help="start new tokens from kept ones in similar contexts of these texts")
    parser.add_argument("--text", type=Path, help="measure bits per byte on it before and after")
    options = parser.parse_args(arguments)
    from codeshell_hf.loading import load_model

    try:
        model = load_model(str(options.model), dtype=torch.float32)
        old, new = (CodeShellTokenizer.from_pretrained(path) for path in (options.model, options.tokenizer))
        text = options.text.read_text(encoding="utf-8") if options.text else None
        bits = [measure_bits(model, old, text)] if text else []
        if text and options.focus:
            from_pieces = copy.deepcopy(model)
            transplant(from_pieces, old, new)
            bits.append(measure_bits(from_pieces, new, text))
        moved = transplant(model, old, new, focus=read_source(options.focus) if options.focus else ())
        model.save_pretrained(options.output)
        new.save_pretrained(options.output)
    except (CodeShellError, OSError) as error:
        print(f"transplant: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(f"rows: {moved}")  # noqa: T201
    if text:
        bits.append(measure_bits(model, new, text))
        beside = f" ({bits[1]:.3f} from pieces alone)" if options.focus else ""
        print(f"bits per byte {bits[0]:.3f} -> {bits[-1]:.3f}{beside}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
