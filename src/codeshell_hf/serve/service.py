"""A model that is served: its prompts, its batching and its limits."""

import asyncio
import copy
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tokenization_codeshell import END_OF_TURN
from .batching import Batching
from .bodies import Body, parse_parameters, read_body
from .outputs import RunningOutputs
from .prompts import PromptEncoder
from .refusals import Refusal
from .sampling import RowSampling
from .settings import ServeSettings

Asked = TypeVar("Asked", bound=BaseModel)
Given = ParamSpec("Given")


class Service:
    """What the handlers of all interfaces share.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model; used for encoding, and a copy of it for decoding.
        name: The model's name in answers.
        settings: Limits.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, settings: ServeSettings
    ) -> None:
        # Encoding changes a tokenizer's state, and decoding in another thread must not see it.
        self.tokenizer = copy.deepcopy(tokenizer)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")
        self.name = name
        self.settings = settings
        self.started = int(time.time())
        self.batching = Batching(
            model,
            self.tokenizer,
            max_rows=settings.max_rows,
            max_batch_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
        )
        rows = int(model.get_input_embeddings().num_embeddings)
        self.encoder = PromptEncoder(tokenizer, context=self.batching.context, rows=rows)
        stops = getattr(tokenizer, "stop_strings", (END_OF_TURN,))
        self._stops: tuple[str, ...] = tuple(stops)

    async def encode(self, encode: Callable[Given, list[int]], *args: Given.args, **kwargs: Given.kwargs) -> list[int]:
        """Calls a method of the encoder in its own thread, so that long texts do not hold up the streams."""
        call = functools.partial(encode, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._encoding, call)

    async def read(self, request: Request) -> Body:
        """The body of a request."""
        limits = self.settings
        return await read_body(request, max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)

    def parse(self, kind: type[Asked], body: Body) -> Asked:
        """The parameters of a request."""
        return parse_parameters(kind, body)

    def limit(self, asked: int | None) -> int | None:
        """The longest output, by the request and the server."""
        most = self.settings.max_new_tokens
        return most if asked is None else asked if most is None else min(asked, most)

    def run(self, ids: Sequence[int], sampling: RowSampling, choices: int = 1) -> RunningOutputs:
        """Queues a prompt; outputs also end where the model ends a turn.

        Raises:
            Refusal: If too many outputs wait.
        """
        stops = tuple(dict.fromkeys((*sampling.stops, *self._stops)))
        return RunningOutputs(
            self.batching,
            ids,
            replace(sampling, stops=stops, max_new_tokens=self.limit(sampling.max_new_tokens)),
            choices,
        )

    def run_all(
        self, prompts: Sequence[Sequence[int]], sampling: RowSampling, choices: int = 1
    ) -> list[RunningOutputs]:
        """Queues several prompts, or none if too many outputs wait."""
        running: list[RunningOutputs] = []
        try:
            running.extend(self.run(ids, sampling, choices) for ids in prompts)
        except Refusal:
            for each in running:
                each.close()
            raise
        return running
