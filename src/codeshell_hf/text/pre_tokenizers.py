"""Pre-tokenizers, which split text before BPE: for Hugging Face's tokenizers, tiktoken and llama.cpp."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

SplitName = Literal["starcoder", "gpt4"]
STARCODER: SplitName = "starcoder"
ACROSS_WORDS = "across-words"

# Boundaries of a vocabulary across words: digits, runs of punctuation, indentation. Text between them is cut every 512
# characters, which limits the time of merges and the backtracking of regex engines.
_BORDERS = r"\p{N}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"
_ACROSS_WORDS = rf"{_BORDERS}|(?:(?!{_BORDERS})[\s\S]){{1,512}}"
_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Split:
    """A pre-tokenizer.

    Args:
        steps: Its form in `tokenizer.json`, under `pre_tokenizer`.
        pattern: A regular expression whose matches are the pieces of a text, for tiktoken.
        llama_cpp: Its name in llama.cpp, if it has one.
    """

    steps: Mapping[str, object]
    pattern: str
    llama_cpp: str | None


def _byte_level(*, splits: bool) -> dict[str, object]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": splits}


def _sequence(*steps: dict[str, object]) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _by_expression(pattern: str) -> dict[str, object]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _sequence(split, _byte_level(splits=False))


SPLITS: dict[str, Split] = {
    # Single digits, then GPT-2's words.
    STARCODER: Split(
        _sequence({"type": "Digits", "individual_digits": True}, _byte_level(splits=True)),
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
        "codeshell",
    ),
    # GPT-4's with single digits, which is Qwen2's: a word includes a preceding sign, a run of punctuation the end of
    # its line, and line ends stay together.
    "gpt4": Split(_by_expression(_GPT4), _GPT4, "qwen2"),
    ACROSS_WORDS: Split(_by_expression(_ACROSS_WORDS), _ACROSS_WORDS, None),
}
"""Pre-tokenizers by name. "across-words" is for the second stage of SuperBPE (Liu et al. 2025, arXiv:2503.13423), with
single digits."""


def make_pre_tokenizer(name: str) -> "PreTokenizer":
    """Makes a pre-tokenizer by name."""
    from tokenizers import Tokenizer, models

    described = json.loads(Tokenizer(models.BPE()).to_str())
    steps: PreTokenizer = Tokenizer.from_str(
        json.dumps({**described, "pre_tokenizer": SPLITS[name].steps})
    ).pre_tokenizer
    return steps


def name_split(steps: Mapping[str, object] | None) -> str | None:
    """Returns the name of a `pre_tokenizer` in a tokenizer's JSON, if it is in `SPLITS`; offsets are ignored."""

    def simplify(step: object) -> object:
        if isinstance(step, Mapping):
            return {key: simplify(value) for key, value in step.items() if key != "trim_offsets"}
        return [simplify(one) for one in step] if isinstance(step, list) else step

    return next((name for name, split in SPLITS.items() if simplify(split.steps) == simplify(steps)), None)
