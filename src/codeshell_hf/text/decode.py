"""The decoding loop: batched, greedy or sampled.

One prefill serves all samples of a prompt, prompts of similar length run together, and finished rows leave the batch.
Samples depend on the seed, the request's id and the sample's number, not on the rest of the batch. Only rounding does:
in another batch, near ties may resolve differently.
"""

# R rows, T tokens, V vocabulary

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ..modeling_codeshell import CACHE_NAME
from ..tokenization_codeshell import END_OF_TURN, CodeShellTokenizer
from .chat import Message, clean_answer, encode_prompt
from .sampling import Sampling

End = Literal["stop", "length", "prompt too long"]
# Finished rows leave the batch once they are this share of it.
DROPPED_SHARE = 0.25


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Args:
        id: Decides what is drawn, together with the seed.
        ids: The prompt.
    """

    id: str
    ids: Sequence[int]
    sampling: Sampling


@dataclass(frozen=True)
class Output:
    """A continuation.

    Args:
        text: All generated text, including a stop text.
        ids: Its tokens, without the end token.
        end: "stop" at a stop text or an end token, "length" at the limit, "prompt too long" if there was no room.
        end_id: The end token, if it ended with one.
    """

    text: str
    ids: Sequence[int]
    end: End
    end_id: int | None = None


class Decoder:
    """Continues prompts with a transformers model in evaluation mode, `batch_size` rows at a time.

    Args:
        is_any_open: Whether any rank still decodes, told whether this one does. A sharded model needs all ranks in each
            forward pass, so those that are done go on with empty ones. They need equally many requests.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        is_any_open: Callable[[bool], bool] = bool,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.is_any_open = is_any_open
        # Without it, a prompt's logits are computed at each of its positions.
        self.keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        config = model.config
        self.context = int(getattr(config, "n_positions", None) or config.max_position_embeddings)
        ends = model.generation_config.eos_token_id if model.generation_config is not None else None
        ends = ends if isinstance(ends, list) else [ends]
        self.ends: set[int] = {*ends, tokenizer.eos_token_id} - {None}

    def decode(
        self,
        requests: Sequence[Request],
        on_done: Callable[[Request, list[Output]], None],
        on_token: Callable[[int], None] | None = None,
    ) -> None:
        """Continues prompts, short ones first.

        Args:
            requests: All with the same temperature and top_p.
            on_done: Called with each request and its outputs once they are complete.
            on_token: Called with each token; only for a single request with one sample.
        """
        ordered = sorted(requests, key=lambda request: (len(request.ids), request.id))
        for batch in self._split(ordered):
            outputs: dict[str, list[Output]] = {request.id: [] for request in batch}
            for rows in self._decode_batch(batch, on_token):
                for name, output in rows:
                    outputs[name].append(output)
            for request in batch:
                on_done(request, outputs[request.id])

    def _split(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        batch: list[Request] = []
        for request in requests:
            samples = request.sampling.samples
            is_full = (len(batch) + 1) * samples > self.batch_size
            if batch and (is_full or samples != batch[0].sampling.samples):
                yield batch
                batch = []
            batch.append(request)
        if batch:
            yield batch

    @torch.no_grad()
    def _decode_batch(
        self, batch: Sequence[Request], on_token: Callable[[int], None] | None
    ) -> Iterator[list[tuple[str, Output]]]:
        fitting = [request for request in batch if 0 < len(request.ids) < self._find_limit(request)]
        for request in batch:
            if request not in fitting:
                yield [(request.id, Output("", (), "prompt too long"))] * request.sampling.samples
        if not fitting:
            return
        samples = fitting[0].sampling.samples
        longest = max(len(request.ids) for request in fitting)
        inputs = torch.zeros(len(fitting), longest, dtype=torch.long, device=self.model.device)
        mask = torch.zeros_like(inputs)
        for row, request in enumerate(fitting):
            inputs[row, longest - len(request.ids) :] = torch.tensor(request.ids)
            mask[row, longest - len(request.ids) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        for first in range(0, samples, self.batch_size):
            many = min(samples - first, self.batch_size)
            cache = DynamicCache(config=self.model.config)
            logits = self._forward(inputs, mask, positions, cache)
            cache.batch_repeat_interleave(many)
            rows = [
                _DecodingRow(request, self._find_limit(request) - len(request.ids), first + number)
                for request in fitting
                for number in range(many)
            ]
            repeated = logits.repeat_interleave(many, dim=0), mask.repeat_interleave(many, dim=0)
            self._decode_rows(rows, *repeated, cache, on_token)
            yield [(row.request.id, Output(row.text, row.ids, row.end, row.end_id)) for row in rows]

    def _find_limit(self, request: Request) -> int:
        return min(self.context, request.sampling.max_tokens or self.context)

    def _forward(self, inputs: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        more = {CACHE_NAME: cache, **({"logits_to_keep": 1} if self.keeps_last else {})}
        logits: Tensor = self.model(
            input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=True, **more
        ).logits
        return logits[:, -1].float()

    def _decode_rows(
        self,
        rows: list["_DecodingRow"],
        logits: Tensor,
        mask: Tensor,
        cache: DynamicCache,
        on_token: Callable[[int], None] | None,
    ) -> None:
        active = rows
        sampling = rows[0].request.sampling
        while True:
            uniforms = [row.draw() for row in active]
            chosen = choose_tokens(logits, uniforms, temperature=sampling.temperature, top_p=sampling.top_p)
            for row, token in zip(active, chosen.tolist(), strict=True):
                row.take(token, self.ends, self.tokenizer)
                if on_token is not None and row.ids and row.ids[-1] == token:
                    on_token(token)
            alive = [place for place, row in enumerate(active) if row.is_open]
            is_open = self.is_any_open(bool(alive))
            while is_open and not alive:
                self.model(input_ids=chosen[:1, None], use_cache=False)
                is_open = self.is_any_open(bool(alive))
            if not is_open:
                return
            if len(active) - len(alive) >= DROPPED_SHARE * len(active):
                kept = torch.tensor(alive, device=logits.device)
                cache.batch_select_indices(kept)
                mask, chosen = mask[kept], chosen[kept]
                active = [active[place] for place in alive]
            mask = nn.functional.pad(mask, (0, 1), value=1)
            positions = mask.sum(-1, keepdim=True) - 1
            logits = self._forward(chosen[:, None], mask, positions, cache)


class _DecodingRow:
    """One output during generation."""

    def __init__(self, request: Request, room: int, number: int) -> None:
        self.request = request
        self.ids: list[int] = []
        self.text = ""
        self.end: End = "length"
        self.end_id: int | None = None
        self.is_open = True
        self._room = min(request.sampling.max_new_tokens, room)
        key = hashlib.sha256(f"{request.sampling.seed}/{request.id}/{number}".encode()).digest()
        self._rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))

    def draw(self) -> float:
        return float(self._rng.random()) if self.request.sampling.temperature else 0.0

    def take(self, token: int, ends: set[int], tokenizer: PreTrainedTokenizerBase) -> None:
        if not self.is_open:
            return
        if token in ends:
            self.end_id = token
            self._close("stop", tokenizer)
            return
        self.ids.append(token)
        if has_stop(tokenizer, self.ids, self.request.sampling.stops):
            self._close("stop", tokenizer)
        if self.is_open and len(self.ids) >= self._room:
            self._close("length", tokenizer)

    def _close(self, end: End, tokenizer: PreTrainedTokenizerBase) -> None:
        self.end = end
        self.is_open = False
        self.text = tokenizer.decode(self.ids, skip_special_tokens=False)


def has_stop(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: Sequence[str]) -> bool:
    """Whether the last tokens of a text complete a stop text."""
    if not stops:
        return False
    # A token is at least one byte, so this many last tokens hold the longest stop; 4 more for split characters.
    tail = max(len(stop.encode()) for stop in stops) + 4
    text = tokenizer.decode(list(ids[-tail:]), skip_special_tokens=False)
    return any(stop in text for stop in stops)


def choose_tokens(logits: Tensor, uniforms: Sequence[float], *, temperature: float, top_p: float) -> Tensor:
    """Chooses the next token of each row.

    Args:
        logits: Shape (R, V), float32.
        uniforms: A random number in [0, 1) for each row.

    Returns:
        Shape (R,), int64.

    Source:
        Holtzman et al. 2019, arXiv:1904.09751, section 3.1 (nucleus sampling).
    """
    if not temperature:
        return logits.argmax(-1)
    probabilities, order = (logits / temperature).softmax(-1).sort(dim=-1, descending=True)
    reached = probabilities.cumsum(-1)
    kept = torch.where(reached - probabilities < top_p, probabilities, 0.0)
    reached = kept.cumsum(-1)
    target = torch.tensor(uniforms, device=logits.device)[:, None] * reached[:, -1:]
    places = torch.searchsorted(reached, target.float(), right=True).clamp(max=logits.shape[-1] - 1)
    # A number close to 1 must not select a token that top_p excluded.
    places = torch.minimum(places, (kept > 0).sum(-1, keepdim=True) - 1)
    return order.gather(-1, places)[:, 0]


@dataclass(frozen=True)
class Answer:
    """A chat answer without its stop.

    Args:
        is_finished: Whether the model stopped by itself.
        ids: Its tokens, including those of its stop; empty if a server answered.
    """

    text: str
    is_finished: bool
    ids: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Their number."""
        return len(self.ids)

    @property
    def turn(self) -> Message:
        """The message as rewards get it: with its stop, if it has one."""
        return {"role": "assistant", "content": self.text + (END_OF_TURN if self.is_finished else "")}


def read_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, is_finished: bool) -> Answer:
    """Reads the answer that a model gave as tokens, up to the turn's end."""
    text, _ = clean_answer(tokenizer.decode(list(ids), skip_special_tokens=True))
    return Answer(text, is_finished, tuple(ids))


def sample_answers(
    model: PreTrainedModel,
    tokenizer: CodeShellTokenizer,
    prompts: Sequence[Sequence[Message]],
    *,
    per_prompt: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
    ids: Sequence[str] | None = None,
    on_answers: Callable[[int, list[Answer]], None] = lambda place, answers: None,
    is_any_open: Callable[[bool], bool] = bool,
) -> list[list[Answer]]:
    """Samples answers to prompts; the same seed, model and arguments give the same answers.

    Args:
        model: Its mode, training or evaluation, is restored.
        prompts: Chats that end with a user's turn.
        per_prompt: Answers to each.
        ids: Decide what is drawn, together with the seed; by default the places of the prompts.
        on_answers: Called with the place of a prompt and its answers as soon as they are complete.
        is_any_open: As in `Decoder`.

    Returns:
        The answers to each prompt.
    """
    names = list(map(str, range(len(prompts)))) if ids is None else list(ids)
    places = {name: place for place, name in enumerate(names)}
    answers: dict[str, list[Answer]] = {}

    def take(request: Request, outputs: list[Output]) -> None:
        answers[request.id] = [
            read_answer(
                tokenizer,
                output.ids if output.end_id is None else (*output.ids, output.end_id),
                is_finished=output.end == "stop",
            )
            for output in outputs
        ]
        on_answers(places[request.id], answers[request.id])

    sampling = Sampling(max_new_tokens, temperature, seed=seed, samples=per_prompt, stops=tuple(tokenizer.stop_strings))
    requests = [
        Request(name, encode_prompt(tokenizer, prompt), sampling) for name, prompt in zip(names, prompts, strict=True)
    ]
    was_training = model.training
    model.eval()
    try:
        decoder = Decoder(model, tokenizer, batch_size=batch_size, is_any_open=is_any_open)
        decoder.decode(requests, take)
    finally:
        model.train(was_training)
    return [answers[name] for name in names]
