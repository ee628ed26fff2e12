"""Text as it comes, without what ends it, and the same text for the same seed."""

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.loading import load_model
from codeshell_hf.text.sampling import Sampling
from codeshell_hf.text.stream import StopFilter, stream

STOP = "|<end>|"


@given(st.lists(st.text(alphabet="|<end> x", max_size=9), max_size=12))
def test_filter_shows_what_stands_before_the_first_stop_however_it_comes(pieces: list[str]) -> None:
    shown: list[str] = []
    held = StopFilter([STOP, "## human"], shown.append)

    for piece in pieces:
        held.feed(piece)
        # Never a character that a stop takes back.
        assert "".join(pieces).split(STOP)[0].startswith("".join(shown))
    held.end()

    whole = "".join(pieces)
    assert "".join(shown) == whole.split(STOP)[0] == held.text
    assert held.is_stopped == (STOP in whole)


def test_the_same_seed_draws_the_same_and_ctrl_c_keeps_what_was_written(learnt_by_heart: Path) -> None:
    model = load_model(str(learnt_by_heart), dtype=torch.float32)
    tokenizer = CodeShellTokenizer.from_pretrained(learnt_by_heart)
    prompt = tokenizer.encode_text("for (int i")
    texts = {stream(model, tokenizer, prompt, Sampling(12, 1.5, 1.0, seed)).text for seed in (1, 1, 1)}
    others = {stream(model, tokenizer, prompt, Sampling(12, 1.5, 1.0, seed)).text for seed in range(4)}
    pieces: list[str] = []

    def cut(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    stopped = stream(model, tokenizer, prompt, Sampling(60, 1.5, 1.0, 0), on_text=cut)

    assert len(texts) == 1
    assert len(others) > 1
    assert not stopped.is_finished
    assert 0 < stopped.tokens < 60
