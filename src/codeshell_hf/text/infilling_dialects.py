"""How models are asked to fill in: their sentinels, found by the vocabulary, and the order of the parts."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

DialectName = Literal["starcoder", "santacoder", "qwen", "deepseek", "codellama", "codestral"]


@dataclass(frozen=True)
class InfillingDialect:
    """The sentinels of a family of models.

    Args:
        prefix: Stands before the prefix.
        suffix: Stands before the suffix.
        middle: Stands at the end; `None` if nothing does.
        is_suffix_first: Whether the suffix comes first, the order SPM.
        stops: Tokens that end a middle, besides the end of text.
    """

    prefix: str
    suffix: str
    middle: str | None
    is_suffix_first: bool = False
    stops: tuple[str, ...] = ()

    @property
    def sentinels(self) -> tuple[str, ...]:
        """All that have to be in the vocabulary."""
        return (self.prefix, self.suffix, *([] if self.middle is None else [self.middle]))

    def arrange(self, prefix: str, suffix: str) -> list[tuple[str, bool]]:
        """The parts of a prompt in order, each with whether it is a sentinel."""
        parts = [[(self.prefix, True), (prefix, False)], [(self.suffix, True), (suffix, False)]]
        ordered = [*parts[1], *parts[0]] if self.is_suffix_first else [*parts[0], *parts[1]]
        return ordered if self.middle is None else [*ordered, (self.middle, True)]

    def write(self, prefix: str, suffix: str) -> str:
        """A prompt as text, for servers, where sentinels in a text are live."""
        return "".join(text for text, _ in self.arrange(prefix, suffix))


# In the order in which a vocabulary is searched.
#
# Sources: Li et al. 2023, arXiv:2305.06161; Ben Allal et al. 2023, arXiv:2301.03988; Hui et al. 2024, arXiv:2409.12186;
# Guo et al. 2024, arXiv:2401.14196; Roziere et al. 2023, arXiv:2308.12950; Mistral's tokenizer for Codestral.
DIALECTS: dict[DialectName, InfillingDialect] = {
    "starcoder": InfillingDialect("<fim_prefix>", "<fim_suffix>", "<fim_middle>", stops=("<file_sep>", "<filename>")),
    "santacoder": InfillingDialect("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    "qwen": InfillingDialect(
        "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
        stops=("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>"),
    ),
    "deepseek": InfillingDialect(
        "<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"
    ),
    "codellama": InfillingDialect("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", stops=("\u2581<EOT>", "<EOT>")),
    "codestral": InfillingDialect("[PREFIX]", "[SUFFIX]", None, is_suffix_first=True, stops=("[SUFFIX]", "[PREFIX]")),
}  # fmt: skip


def find_dialect(vocabulary: Container[str]) -> InfillingDialect | None:
    """The dialect all of whose sentinels are in a vocabulary; `None` if there is none.

    >>> find_dialect({"[PREFIX]", "[SUFFIX]", "a"}).write("x = ", " + 1")
    '[SUFFIX] + 1[PREFIX]x = '
    """
    for dialect in DIALECTS.values():
        if all(sentinel in vocabulary for sentinel in dialect.sentinels):
            return dialect
    return None
