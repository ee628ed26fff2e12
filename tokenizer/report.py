"""What a tokenizer is worth: characters per token."""

from collections import Counter
from collections.abc import Iterable

from codeshell_hf import CodeShellTokenizer


def measure_languages(tokenizer: CodeShellTokenizer, documents: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Measures characters per token by language.

    Args:
        tokenizer: The tokenizer.
        documents: Language and text of each.

    Returns:
        Characters per token, "all" first, then languages by their number of characters.
    """
    characters: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for language, text in documents:
        count = len(tokenizer.encode_text(text))
        for name in (language, "all"):
            characters[name] += len(text)
            tokens[name] += count
    return {name: characters[name] / max(tokens[name], 1) for name, _ in characters.most_common()}
