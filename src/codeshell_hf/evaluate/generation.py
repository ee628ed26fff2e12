"""Answers of a model in memory to the problems of a benchmark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import CheckpointError
from ..text import decode
from ..text.chat import encode_prompt
from ..text.decode import Decoder, End
from .prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Request:
    """A problem as it is posed to a model.

    Args:
        id: The problem's key, which also seeds the sampling.
        samples: Answers wanted.
        stops: Texts that end an answer.
        max_new_tokens: Of an answer.
        max_tokens: Of prompt and answer together, `None` for the context of the model.
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
        text: All that was generated, its stop included.
        tokens: How many.
        end: "stop" at a stop text or an end token, "length" at the limit, "prompt too long" where there was no room.
    """

    text: str
    tokens: int
    end: End


OnDone = Callable[[Request, list[Completion]], None]


class Generator(Protocol):
    """Generates answers."""

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests in any order; calls `on_done` with each and its answers as soon as they are complete."""


class ModelGenerator:
    """Generates answers with a model of transformers.

    Args:
        model: In evaluation mode.
        batch_size: Rows at a time.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, batch_size: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.decoder = Decoder(model, tokenizer, batch_size=batch_size)

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests, short prompts first.

        Args:
            requests: All with the same temperature and top_p.

        Raises:
            CheckpointError: If the vocabulary lacks the sentinels of infilling, or the tokenizer a chat template.
        """
        encoded = {request.id: (request, self.encode(request.prompt)) for request in requests}
        rows = self.model.get_input_embeddings().num_embeddings
        highest = max((max(ids, default=0) for _, ids in encoded.values()), default=0)
        if highest >= rows:
            raise CheckpointError(
                f"the tokenizer writes a prompt with id {highest}, but the model has {rows} embeddings; it was trained "
                "without that token: leave the task out, or give it the tokenizer that it was trained with"
            )

        def complete(decoded: decode.Request, outputs: list[decode.Output]) -> None:
            request, _ = encoded[decoded.id]
            completions = []
            for output in outputs:
                text = output.text
                for stop in decoded.stops if request.prompt.is_chat else ():
                    text = text.partition(stop)[0].strip()
                completions.append(Completion(text, len(output.ids), output.end))
            on_done(request, completions)

        self.decoder.decode([self._make_request(request, ids) for request, ids in encoded.values()], complete)

    def _make_request(self, request: Request, ids: Sequence[int]) -> decode.Request:
        turns = getattr(self.tokenizer, "stop_strings", ()) if request.prompt.is_chat else ()
        return decode.Request(
            id=request.id,
            ids=ids,
            samples=request.samples,
            stops=(*request.stops, *turns),
            max_new_tokens=request.max_new_tokens,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
        )

    def encode(self, prompt: Prompt) -> list[int]:
        """Turns a prompt into ids; special tokens that stand in its text stay text.

        Raises:
            CheckpointError: If the vocabulary lacks what it takes.
        """
        if prompt.is_chat:
            if not self.tokenizer.chat_template:
                raise CheckpointError(
                    "the model has no chat template and is asked to chat; leave the task out or name a tuned model"
                )
            return encode_prompt(self.tokenizer, [{"role": "user", "content": prompt.text}])
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
