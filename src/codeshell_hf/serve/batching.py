"""Generates for many requests at once: rows join the batch when they come, and leave it when they are done.

One thread owns the model. A prompt is computed by itself, its outputs become rows of the batch, and each step computes
one token of every row. What is drawn depends on a request's seed and not on the batch; only rounding does, which may
resolve near ties differently. transformers' `generate_batch` draws all requests with one seed and reports no likeliest
tokens, which requests here may ask for.
"""

import hashlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import CodeShellError
from ..modeling_codeshell import CACHE_NAME
from .row_cache import RowCache
from .row_text import RowEnd, RowText, TextPiece
from .sampling import RowSampling, choose_token

logger = logging.getLogger(__name__)


class TooBusy(CodeShellError):
    """More outputs wait than the server admits."""


@dataclass(eq=False)
class Job:
    """A prompt to continue.

    Args:
        ids: The prompt, at least one token and fewer than the context.
        choices: Number of outputs.
        on_piece: Called with the number of an output and each new piece of it, in the thread of the batching.
    """

    ids: Sequence[int]
    sampling: RowSampling
    choices: int
    on_piece: Callable[[int, TextPiece], None]
    is_cancelled: bool = False


class BatchRow:
    """One output of a job."""

    def __init__(self, job: Job, number: int, tokenizer: PreTrainedTokenizerBase, room: int) -> None:
        self.job = job
        self.number = number
        self.room = room
        self.written: list[int] = []
        self._text = RowText(tokenizer, job.sampling.stops)
        key = hashlib.sha256(f"{job.sampling.seed}/{number}".encode()).digest()
        self._rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))

    @property
    def tokens_needed(self) -> int:
        """Positions that the row may come to."""
        return len(self.job.ids) + self.room

    def take(self, logits: Tensor, ends: frozenset[int]) -> bool:
        """Chooses the next token from logits of shape (V,), and passes its text on; returns whether the row goes on."""
        uniform = float(self._rng.random())
        chosen = choose_token(logits, self.job.sampling, prompt=self.job.ids, written=self.written, uniform=uniform)
        self.written.append(chosen.id)
        if chosen.id in ends:
            return self.close("stop")
        piece = self._text.take(chosen)
        if piece.text or piece.tokens or piece.end:
            self._pass_on(piece)
        if piece.end is None and len(self.written) >= self.room:
            return self.close("length")
        return piece.end is None

    def close(self, end: RowEnd) -> bool:
        """Passes the rest on; returns False."""
        self._pass_on(self._text.end(end))
        return False

    def fail(self, reason: str) -> None:
        """Ends the row with an error."""
        self._pass_on(TextPiece("", error=reason))

    def _pass_on(self, piece: TextPiece) -> None:
        piece = replace(piece, written=len(self.written)) if piece.end else piece
        try:
            self.job.on_piece(self.number, piece)
        except Exception:  # nobody listens any more, such as a loop that is closed
            logger.debug("a request is gone", exc_info=True)
            self.job.is_cancelled = True


class Batching:
    """Continuous batching over a model in evaluation mode; `start` it, and `close` it at the end."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int,
        max_batch_tokens: int,
        max_waiting: int,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.context = int(model.config.max_position_embeddings)
        self.max_rows = max_rows
        self.max_batch_tokens = max_batch_tokens
        self.max_waiting = max_waiting
        ends = model.generation_config.eos_token_id if model.generation_config is not None else None
        listed = ends if isinstance(ends, list) else [ends]
        self.ends = frozenset({*listed, tokenizer.eos_token_id} - {None})
        self._waiting: deque[BatchRow] = deque()
        self._active: list[BatchRow] = []
        self._starting = 0  # rows whose prompt is computed
        self._cache: RowCache | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="batching", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the step that it computes; rows that are left fail."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are worked on."""
        return self._thread.is_alive()

    @property
    def places(self) -> tuple[int, int]:
        """Rows in the batch, and rows that wait."""
        with self._changed:
            return len(self._active) + self._starting, len(self._waiting)

    def submit(self, job: Job) -> None:
        """Queues a job.

        Raises:
            TooBusy: If too many rows wait.
        """
        room = self.context - len(job.ids)
        asked = job.sampling.max_new_tokens
        room = room if asked is None else min(asked, room)
        seed = secrets.randbits(64) if job.sampling.seed is None else job.sampling.seed
        job.sampling = replace(job.sampling, seed=seed)
        rows = [BatchRow(job, number, self.tokenizer, room) for number in range(job.choices)]
        if room < 1:
            for row in rows:
                row.close("length")
            return
        with self._changed:
            free = max(0, self.max_rows - len(self._active) - self._starting)
            if len(self._waiting) + len(rows) > self.max_waiting + free or self._is_closed:
                raise TooBusy(f"{len(self._waiting)} outputs wait, and {self.max_waiting} may; ask again later")
            self._waiting += rows
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Takes a job's rows out of the batch before its next step."""
        job.is_cancelled = True
        with self._changed:
            self._waiting = deque(row for row in self._waiting if row.job is not job)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._active or self._is_closed):
                    self._changed.wait()
                if self._is_closed:
                    break
            self._advance()
        for row in [*self._active, *self._waiting]:
            row.fail("the server is shutting down")

    def _advance(self) -> None:
        """Drops rows that were left, admits those that fit, and computes a token of each."""
        try:
            self._keep([not row.job.is_cancelled for row in self._active])
            while rows := self._admit():
                self._prefill(rows)
            if self._active:
                self._step()
        except Exception:  # out of memory, for instance; the next requests may fit
            logger.exception("a step failed")
            for row in self._active:
                row.fail("the model failed; the server's log says why")
            self._active, self._cache, self._starting = [], None, 0

    def _admit(self) -> list[BatchRow]:
        """Takes waiting rows of one job that fit into the batch."""
        rows: list[BatchRow] = []
        with self._changed:
            while self._waiting and self._fits([*self._active, *rows, self._waiting[0]]):
                if rows and rows[0].job is not self._waiting[0].job:
                    break
                rows.append(self._waiting.popleft())
            self._starting = len(rows)
        return rows

    def _fits(self, rows: Sequence[BatchRow]) -> bool:
        longest = max(row.tokens_needed for row in rows)
        return len(rows) == 1 or (len(rows) <= self.max_rows and len(rows) * longest <= self.max_batch_tokens)

    @torch.inference_mode()
    def _prefill(self, rows: list[BatchRow]) -> None:
        """Computes a prompt once, and adds its outputs to the batch as rows that have their first token."""
        cache = DynamicCache()
        ids = torch.tensor([rows[0].job.ids], device=self.model.device)
        mask = torch.ones_like(ids)
        try:
            logits = self._forward(ids, mask, None, cache, last_only=True)
        except Exception:  # only this request fails
            logger.exception("a prompt of %d tokens failed", ids.shape[1])
            for row in rows:
                row.fail("the model failed; the server's log says why")
            return
        goes_on = [row for row in rows if row.take(logits[0], self.ends)]
        if not goes_on:
            return
        many = len(goes_on)
        layers = [
            (layer.keys.repeat_interleave(many, dim=0), layer.values.repeat_interleave(many, dim=0))
            for layer in cache.layers
        ]
        new = RowCache(layers, mask.repeat_interleave(many, dim=0))
        self._cache = new if self._cache is None else self._cache.join(new)
        self._active += goes_on

    @torch.inference_mode()
    def _step(self) -> None:
        assert self._cache is not None  # noqa: S101 - rows have one
        last = torch.tensor([[row.written[-1]] for row in self._active], device=self.model.device)
        positions = self._cache.append_column()
        logits = self._forward(last, self._cache.mask, positions, self._cache.cache)
        self._keep([row.take(logits[number], self.ends) for number, row in enumerate(self._active)])

    def _keep(self, kept: Sequence[bool]) -> None:
        if all(kept):
            return
        places = [place for place, is_kept in enumerate(kept) if is_kept]
        cache = None if not places or self._cache is None else self._cache.select(places)
        with self._changed:
            self._active = [self._active[place] for place in places]
        self._cache = cache

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor | None, cache: DynamicCache, *, last_only: bool = False
    ) -> Tensor:
        """Logits of each row's last token, shape (R, V), float32."""
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1 if last_only else 0,
            **{CACHE_NAME: cache},
        ).logits
        return logits[:, -1].float()
