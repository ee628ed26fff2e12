"""Streams generated text in pieces, without the stop text."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel, TextStreamer

from ..tokenization_codeshell import CodeShellTokenizer
from .decode import Decoder, Output, Request
from .sampling import Sampling


@dataclass(frozen=True)
class Streamed:
    """What was streamed, without its stop; `is_finished` if the model stopped by itself."""

    text: str
    tokens: int
    is_finished: bool
    seconds: float


class StopFilter:
    """Passes text on to `on_text` up to a stop text, and buffers what may be the start of one.

    >>> shown = []
    >>> held = StopFilter(["|<end>|"], shown.append)
    >>> held.feed("x = 1|<e"); held.feed("lse> | |<end>|## human"); held.end()
    >>> "".join(shown)
    'x = 1|<else> | '
    """

    def __init__(self, stops: Sequence[str], on_text: Callable[[str], None]) -> None:
        self.stops = [stop for stop in stops if stop]
        self.on_text = on_text
        self.text = ""
        self.is_stopped = False
        self.stopped_at: str | None = None
        self._held = ""

    def feed(self, text: str) -> None:
        """Takes the next piece of text."""
        if self.is_stopped:
            return
        self._held += text
        places = [(self._held.find(stop), stop) for stop in self.stops]
        if found := [place for place in places if place[0] >= 0]:
            self.is_stopped = True
            first, self.stopped_at = min(found)
            self._let_through(first)
            self._held = ""
            return
        risky = max(
            (length for stop in self.stops for length in range(1, len(stop)) if self._held.endswith(stop[:length])),
            default=0,
        )
        self._let_through(len(self._held) - risky)

    @property
    def held(self) -> str:
        """Text that is held back, since it may be the start of a stop."""
        return self._held

    def end(self) -> None:
        """Passes on the rest: no text follows that could complete a stop."""
        self._let_through(len(self._held))

    def _let_through(self, length: int) -> None:
        if length:
            self.text += self._held[:length]
            self.on_text(self._held[:length])
            self._held = self._held[length:]


class _Streamer(TextStreamer):
    def __init__(self, tokenizer: CodeShellTokenizer, held: StopFilter) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self.held = held

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: FBT001, FBT002
        self.held.feed(text)


def stream(
    model: PreTrainedModel,
    tokenizer: CodeShellTokenizer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    on_text: Callable[[str], None] = lambda text: None,
) -> Streamed:
    """Continues a prompt and passes each piece of text to `on_text`; Ctrl-C returns what there is so far.

    Args:
        model: In evaluation mode.
        prompt: Ids.
        sampling: Of one sample.
    """
    started = time.monotonic()
    held = StopFilter(sampling.stops, on_text)
    streamer = _Streamer(tokenizer, held)
    ids: list[int] = []
    outputs: list[Output] = []
    if sampling.seed is None:
        sampling = replace(sampling, seed=int(np.random.default_rng().integers(2**32)))
    request = Request("", prompt, sampling)

    def take(token: int) -> None:
        ids.append(token)
        streamer.put(torch.tensor([token]))

    with suppress(KeyboardInterrupt):
        Decoder(model, tokenizer, batch_size=1).decode([request], lambda _, done: outputs.extend(done), take)
    streamer.end()
    held.end()
    end = outputs[0].end if outputs else None
    return Streamed(held.text, len(ids), end == "stop", time.monotonic() - started)
