"""How models are asked to fill in."""

import pytest

from codeshell_hf.text.infilling_dialects import DIALECTS, find_dialect

# As the families' own documentation writes the prompt for prefix "a" and suffix "b".
WRITTEN = {
    "starcoder": "<fim_prefix>a<fim_suffix>b<fim_middle>",
    "santacoder": "<fim-prefix>a<fim-suffix>b<fim-middle>",
    "qwen": "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "deepseek": "<\uff5cfim\u2581begin\uff5c>a<\uff5cfim\u2581hole\uff5c>b<\uff5cfim\u2581end\uff5c>",
    "codellama": "\u2581<PRE>a\u2581<SUF>b\u2581<MID>",
    "codestral": "[SUFFIX]b[PREFIX]a",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_each_family_is_asked_in_its_own_words(name: str) -> None:
    dialect = next(dialect for key, dialect in DIALECTS.items() if key == name)

    assert dialect.write("a", "b") == WRITTEN[name]
    assert find_dialect({*dialect.sentinels, "x"}) == dialect
    assert find_dialect({*dialect.sentinels[1:], "x"}) is None
