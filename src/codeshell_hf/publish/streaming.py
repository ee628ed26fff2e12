"""Writes as a person reads along: text as it comes, and nothing of what ends it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import TextStreamer

from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        max_new_tokens: Longest text.
        temperature: 0 takes the likeliest token each time.
        top_p: Share of the probability that is drawn from.
        seed: Decides what is drawn; `None` leaves it to chance.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        text: Without its stop.
        tokens: How many were drawn.
        is_finished: Whether the model stopped by itself.
        seconds: How long it took.
    """

    text: str
    tokens: int
    is_finished: bool
    seconds: float


class StopFilter:
    """Lets text through up to a stop, holding back what might become one.

    Args:
        stops: Texts that end the answer.
        on_text: Called with each piece that is let through.

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
        self._held = ""

    def feed(self, text: str) -> None:
        """Takes a piece of text.

        Args:
            text: What comes next.
        """
        if self.is_stopped:
            return
        self._held += text
        places = [self._held.find(stop) for stop in self.stops]
        if found := [place for place in places if place >= 0]:
            self.is_stopped = True
            self._let_through(min(found))
            self._held = ""
            return
        risky = max(
            (length for stop in self.stops for length in range(1, len(stop)) if self._held.endswith(stop[:length])),
            default=0,
        )
        self._let_through(len(self._held) - risky)

    def end(self) -> None:
        """Lets the rest through: nothing comes any more that could make a stop of it."""
        self._let_through(len(self._held))

    def _let_through(self, length: int) -> None:
        if length:
            self.text += self._held[:length]
            self.on_text(self._held[:length])
            self._held = self._held[length:]


class _Streamer(TextStreamer):
    def __init__(self, tokenizer: CodeShellTokenizer, held: StopFilter) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.held = held
        self.tokens = 0

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.tokens += value.numel()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: FBT001, FBT002
        self.held.feed(text)


@torch.inference_mode()
def write(
    model: CodeShellForCausalLM,
    tokenizer: CodeShellTokenizer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    stops: Sequence[str] = (),
    on_text: Callable[[str], None] = lambda text: None,
) -> Written:
    """Lets a model go on from a prompt.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        prompt: Ids.
        sampling: How tokens are drawn.
        stops: Texts that end it besides the end-of-text token.
        on_text: Called with each piece as soon as it stands.

    Returns:
        What was written. After Ctrl-C, what there was until then.
    """
    started = time.monotonic()
    held = StopFilter(stops, on_text)
    streamer = _Streamer(tokenizer, held)
    ids = torch.tensor([list(prompt)], device=model.device)
    drawing = (
        {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        if sampling.temperature
        else {"do_sample": False}
    )
    output: torch.Tensor | None = None
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    try:
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sampling.max_new_tokens,
            streamer=streamer,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
            **({"stop_strings": list(stops), "tokenizer": tokenizer} if stops else {}),
            **drawing,
        )
    except KeyboardInterrupt:
        streamer.end()
    held.end()
    has_ended = output is not None and int(output[0, -1]) == tokenizer.eos_token_id
    return Written(held.text, streamer.tokens, held.is_stopped or has_ended, time.monotonic() - started)
