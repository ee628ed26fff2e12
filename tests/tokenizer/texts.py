"""Texts to build tokenizers from."""

from collections.abc import Sequence
from pathlib import Path

from tokenizer.corpus import Sample, read_source

ROOT = Path(__file__).parents[2]
CODE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "codeshell_hf").glob("*.py"))]
CHINESE = list(read_source(ROOT / "tokenizer" / "data" / "chinese-python-docs.jsonl"))
HELD_OUT_CHINESE = CHINESE.pop()
HELD_OUT_CODE = (ROOT / "recipes" / "pretrain.py").read_text(encoding="utf-8")


def draw(texts: Sequence[str]) -> Sample:
    """A sample of texts, each once."""
    return Sample(sum(map(len, texts)), lambda: ((text, 1) for text in texts))
