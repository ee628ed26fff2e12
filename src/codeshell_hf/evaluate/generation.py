"""Answers of a model in memory: several of one prefill, prompts together by length, each row until its own end.

What is drawn for a problem depends on the seed, the problem and the number of the sample, and not on what it shares a
batch with; sums of floating-point numbers do, so that a near tie can fall otherwise in another batch.
"""

# R rows, T tokens, V vocabulary

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..errors import CheckpointError
from ..modeling_codeshell import CACHE_NAME
from .posing import Prompt

End = Literal["stop", "length", "prompt too long"]
# Rows that have ended are dropped when they are this share of all.
DROPPED_SHARE = 0.25


@dataclass(frozen=True)
class Request:
    """A problem as a model is asked it.

    Args:
        id: The problem's, which also decides what is drawn.
        prompt: What is given.
        samples: Answers wanted.
        stops: Texts that end an answer.
        max_new_tokens: Of an answer.
        max_tokens: Of prompt and answer together, `None` for what the model can hold.
        temperature: 0 takes the likeliest token.
        top_p: Share of probability that is sampled from.
        seed: Of sampling.
    """

    id: str
    prompt: Prompt
    samples: int
    stops: tuple[str, ...]
    max_new_tokens: int
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Completion:
    """An answer.

    Args:
        text: All that was written, its stop included.
        tokens: How many that were.
        end: "stop" at a stop text or the end of the document, "length" at the limit, "prompt too long" if there was
            no room for an answer.
    """

    text: str
    tokens: int
    end: End


OnDone = Callable[[Request, list[Completion]], None]


class Generator(Protocol):
    """Whoever answers requests."""

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests in any order.

        Args:
            requests: What to answer.
            on_done: Called with each request and its answers as soon as they are there.
        """


class ModelGenerator:
    """Answers by a model of transformers.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        batch_size: Rows at a time.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        config = model.config
        self.context = int(getattr(config, "n_positions", None) or config.max_position_embeddings)
        ends = model.generation_config.eos_token_id if model.generation_config is not None else None
        ends = ends if isinstance(ends, list) else [ends]
        self.ends = {*ends, tokenizer.eos_token_id} - {None}

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests, short prompts first.

        Args:
            requests: What to answer.
            on_done: Called with each request and its answers as soon as they are there.

        Raises:
            CheckpointError: If something is to be filled in and the vocabulary has no sentinels for it, or there is to
                be a chat and no template.
        """
        encoded = [(request, self.encode(request.prompt)) for request in requests]
        rows = self.model.get_input_embeddings().num_embeddings
        highest = max((max(ids, default=0) for _, ids in encoded), default=0)
        if highest >= rows:
            raise CheckpointError(
                f"the tokenizer writes a prompt with id {highest}, but the model has {rows} embeddings; it was trained "
                "without that token: leave the task out, or give it the tokenizer that it was trained with"
            )
        encoded.sort(key=lambda pair: (len(pair[1]), pair[0].id))
        for batch in self._split(encoded):
            answers: dict[str, list[Completion]] = {request.id: [] for request, _ in batch}
            for rows in self._generate_batch(batch):
                for name, completion in rows:
                    answers[name].append(completion)
            for request, _ in batch:
                on_done(request, answers[request.id])

    def encode(self, prompt: Prompt) -> list[int]:
        """Turns a prompt into ids; special tokens that stand in its text stay text.

        Args:
            prompt: The prompt.

        Returns:
            Ids.

        Raises:
            CheckpointError: If the vocabulary lacks what it takes.
        """
        if prompt.is_chat:
            if not self.tokenizer.chat_template:
                raise CheckpointError(
                    "the model has no chat template and is asked to chat; leave the task out or name a tuned model"
                )
            turns = [{"role": "user", "content": prompt.text}]
            return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))
        if prompt.suffix is None:
            return self._encode_text(prompt.text)
        if hasattr(self.tokenizer, "encode_infilling"):
            try:
                return list(self.tokenizer.encode_infilling(prompt.text, prompt.suffix, max_tokens=prompt.max_tokens))
            except ValueError as error:
                raise CheckpointError(f"a line is to be filled in, but {error}") from error
        vocabulary = self.tokenizer.get_vocab()
        before, after, middle = (vocabulary.get(f"<fim_{part}>") for part in ("prefix", "suffix", "middle"))
        if None in (before, after, middle):
            raise CheckpointError(
                "a line is to be filled in, but the vocabulary has no <fim_prefix>, <fim_suffix> and <fim_middle>; "
                "leave the task out"
            )
        return [before, *self._encode_text(prompt.text), after, *self._encode_text(prompt.suffix), middle]

    def _encode_text(self, text: str) -> list[int]:
        if hasattr(self.tokenizer, "encode_text"):
            return list(self.tokenizer.encode_text(text))
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _split(self, encoded: list[tuple[Request, list[int]]]) -> Iterator[list[tuple[Request, list[int]]]]:
        batch: list[tuple[Request, list[int]]] = []
        for pair in encoded:
            rows = (len(batch) + 1) * pair[0].samples
            if batch and (rows > self.batch_size or pair[0].samples != batch[0][0].samples):
                yield batch
                batch = []
            batch.append(pair)
        if batch:
            yield batch

    @torch.no_grad()
    def _generate_batch(self, batch: list[tuple[Request, list[int]]]) -> Iterator[list[tuple[str, Completion]]]:
        fitting = [(request, ids) for request, ids in batch if 0 < len(ids) < self._find_limit(request)]
        for request, ids in batch:
            if (request, ids) not in fitting:
                yield [(request.id, Completion("", 0, "prompt too long"))] * request.samples
        if not fitting:
            return
        samples = fitting[0][0].samples
        longest = max(len(ids) for _, ids in fitting)
        inputs = torch.zeros(len(fitting), longest, dtype=torch.long, device=self.model.device)
        mask = torch.zeros_like(inputs)
        for row, (_, ids) in enumerate(fitting):
            inputs[row, longest - len(ids) :] = torch.tensor(ids)
            mask[row, longest - len(ids) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        for first in range(0, samples, self.batch_size):
            many = min(samples - first, self.batch_size)
            cache = DynamicCache(config=self.model.config)
            logits = self._forward(inputs, mask, positions, cache)[:, -1]
            cache.batch_repeat_interleave(many)
            rows = [
                _Row(request, self._find_stops(request), self._find_limit(request) - len(ids), first + number)
                for request, ids in fitting
                for number in range(many)
            ]
            self._decode(rows, logits.repeat_interleave(many, dim=0), mask.repeat_interleave(many, dim=0), cache)
            yield [(row.request.id, Completion(row.text, len(row.ids), row.end)) for row in rows]

    def _find_stops(self, request: Request) -> tuple[str, ...]:
        turns = getattr(self.tokenizer, "stop_strings", ()) if request.prompt.is_chat else ()
        return (*request.stops, *turns)

    def _find_limit(self, request: Request) -> int:
        return min(self.context, request.max_tokens or self.context)

    def _forward(self, inputs: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        return self.model(
            input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=True, **{CACHE_NAME: cache}
        ).logits.float()

    def _decode(self, rows: list["_Row"], logits: Tensor, mask: Tensor, cache: DynamicCache) -> None:
        active = rows
        while True:
            chosen = choose_tokens(logits, [row.draw() for row in active], active[0].request)
            for row, token in zip(active, chosen.tolist(), strict=True):
                row.take(token, self.ends, self.tokenizer)
            alive = [place for place, row in enumerate(active) if row.is_open]
            if not alive:
                return
            if len(active) - len(alive) >= DROPPED_SHARE * len(active):
                kept = torch.tensor(alive, device=logits.device)
                cache.batch_select_indices(kept)
                mask, chosen = mask[kept], chosen[kept]
                active = [active[place] for place in alive]
            mask = nn.functional.pad(mask, (0, 1), value=1)
            positions = mask.sum(-1, keepdim=True) - 1
            logits = self._forward(chosen[:, None], mask, positions, cache)[:, -1]


class _Row:
    """One answer while it is written."""

    def __init__(self, request: Request, stops: tuple[str, ...], room: int, number: int) -> None:
        self.request = request
        self.ids: list[int] = []
        self.text = ""
        self.end: End = "length"
        self.is_open = True
        self._stops = stops
        self._room = min(request.max_new_tokens, room)
        self._tail = max((len(stop) for stop in stops), default=0) + 4
        key = hashlib.sha256(f"{request.seed}/{request.id}/{number}".encode()).digest()
        self._chance = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))

    def draw(self) -> float:
        return float(self._chance.random()) if self.request.temperature else 0.0

    def take(self, token: int, ends: set[int], tokenizer: Any) -> None:
        if not self.is_open:
            return
        if token in ends:
            self._close("stop", tokenizer)
            return
        self.ids.append(token)
        tail = tokenizer.decode(self.ids[-self._tail :], skip_special_tokens=False)
        if any(stop in tail for stop in self._stops):
            self._close("stop", tokenizer)
        elif len(self.ids) >= self._room:
            self._close("length", tokenizer)

    def _close(self, end: End, tokenizer: Any) -> None:
        self.end = end
        self.is_open = False
        self.text = tokenizer.decode(self.ids, skip_special_tokens=False)
        if self.request.prompt.is_chat:
            for stop in self._stops:
                self.text = self.text.partition(stop)[0].strip()


def choose_tokens(logits: Tensor, chances: Sequence[float], request: Request) -> Tensor:
    """Chooses the next token of each row.

    Args:
        logits: Shape (R, V), float32.
        chances: A number of each row, 0 to 1, which decides what is drawn.
        request: For temperature and share; all rows have the same.

    Returns:
        Shape (R,), int64.

    Source:
        Holtzman et al. 2019, arXiv:1904.09751, section 3.1 (nucleus sampling).
    """
    if not request.temperature:
        return logits.argmax(-1)
    probabilities, order = (logits / request.temperature).softmax(-1).sort(dim=-1, descending=True)
    reached = probabilities.cumsum(-1)
    kept = torch.where(reached - probabilities < request.top_p, probabilities, 0.0)
    reached = kept.cumsum(-1)
    target = torch.tensor(chances, device=logits.device)[:, None] * reached[:, -1:]
    places = torch.searchsorted(reached, target.float(), right=True).clamp(max=logits.shape[-1] - 1)
    # A chance next to 1 must not fall on what was cut off.
    places = torch.minimum(places, (kept > 0).sum(-1, keepdim=True) - 1)
    return order.gather(-1, places)[:, 0]
