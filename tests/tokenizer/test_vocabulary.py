"""Vocabularies lose nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.hub import serve_hub, visit_hub
from tests.tokenizer.texts import ROOT
from tokenizer.bpe import wrap_backend
from tokenizer.vocabulary import (
    Vocabulary,
    find_dead_tokens,
    find_lossy_characters,
    parse_vocabulary,
)


def test_the_whole_basic_plane_and_controls_survive(merged: Vocabulary, unigram: CodeShellTokenizer) -> None:
    plane = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]

    assert find_lossy_characters(merged.make_backend(SPECIAL_TOKENS), plane) == []
    assert find_lossy_characters(unigram.backend_tokenizer, plane) == []


@given(text=st.text())
@settings(max_examples=40, deadline=None)
def test_any_text_survives_every_kind(merged: Vocabulary, unigram: CodeShellTokenizer, text: str) -> None:
    for tokenizer in (wrap_backend(merged.make_backend(SPECIAL_TOKENS)), unigram):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text


@pytest.mark.slow
def test_a_base_comes_from_the_hub_by_name(tmp_path: Path, base: Vocabulary) -> None:
    script = (
        "import sys\n"
        "from tokenizer.vocabulary import find_base, read_vocabulary\n"
        "print(len(read_vocabulary(find_base(sys.argv[1]))))\n"
    )
    with serve_hub() as (hub, address):
        hub.add("some/base", {"tokenizer.json": base.make_backend().to_str().encode()})
        environment = visit_hub(address, tmp_path)
        found, missing = (
            subprocess.run(
                [sys.executable, "-c", script, name],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environment,
            )
            for name in ("some/base", "no/base")
        )  # fmt: skip

    assert found.stdout.strip() == str(len(base)), found.stderr
    assert "base no/base is neither a file nor a repository of the Hub that can be read" in missing.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "is 'Unigram', not a BPE with merges"),
        ([], "is 'list', not a BPE"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["a b c"]}}, "must have two operands"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["a b", "ab cd"]}}, "merge 1 of x needs 'cd'"),
    ],
)
def test_bases_that_are_no_bpe_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_vocabulary(wrong, "x")


def test_tokens_that_no_text_gives_are_dead() -> None:
    alive = Vocabulary((("a", "b"), ("ab", "c")))
    # "bc" merges before "ab" does, so that "abc" is never put together.
    dead = Vocabulary((("b", "c"), ("a", "b"), ("ab", "c")))

    assert find_dead_tokens(alive.make_backend(), ["a", "ab", "abc"]) == []
    assert find_dead_tokens(dead.make_backend(), ["ab", "bc", "abc"]) == ["abc"]
