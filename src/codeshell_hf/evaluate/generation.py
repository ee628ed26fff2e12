"""Generates answers to benchmark problems with a model in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ..errors import CheckpointError
from ..text.chat import encode_prompt
from ..text.decode import Decoder, End, Output, Request
from ..text.infilling_dialects import DIALECTS, find_dialect
from ..text.sampling import Sampling
from .prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Question:
    """A problem's prompt and sampling parameters.

    Args:
        id: The problem's key, which also seeds the sampling.
    """

    id: str
    prompt: Prompt
    sampling: Sampling


@dataclass(frozen=True)
class Completion:
    """An answer with its stop, the number of generated tokens, and why it ended."""

    text: str
    tokens: int
    end: End


OnDone = Callable[[Question, list[Completion]], None]


class Generator(Protocol):
    """Generates answers."""

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        """Answers questions in any order; calls `on_done` with each and its answers once they are complete."""


class ModelGenerator:
    """Generates answers with a transformers model in evaluation mode, `batch_size` rows at a time."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, batch_size: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.decoder = Decoder(model, tokenizer, batch_size=batch_size)
        self.beginning = find_beginning(tokenizer)
        self.vocabulary = tokenizer.get_vocab()
        self.dialect = find_dialect(self.vocabulary)

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        """Answers questions, short prompts first.

        Args:
            questions: All with the same temperature and top_p.

        Raises:
            CheckpointError: If the vocabulary has no infilling sentinels, or the tokenizer no chat template.
        """
        encoded = {
            question.id: (question, self.encode(question.prompt, new_tokens=question.sampling.max_new_tokens))
            for question in questions
        }
        rows = self.model.get_input_embeddings().num_embeddings
        highest = max((max(ids, default=0) for _, ids in encoded.values()), default=0)
        if highest >= rows:
            raise CheckpointError(
                f"the prompt has token id {highest}, but the model has {rows} embeddings, so it was trained without "
                "it; leave the task out, or use the tokenizer that the model was trained with"
            )

        def complete(request: Request, outputs: list[Output]) -> None:
            question, _ = encoded[request.id]
            completions = []
            for output in outputs:
                text = output.text
                for stop in request.sampling.stops if question.prompt.is_chat else ():
                    text = text.partition(stop)[0].strip()
                for stop in self._list_infilling_stops(question.prompt):
                    text = text.partition(stop)[0]
                completions.append(Completion(text, len(output.ids), output.end))
            on_done(question, completions)

        self.decoder.decode([self._make_request(question, ids) for question, ids in encoded.values()], complete)

    def _make_request(self, question: Question, ids: Sequence[int]) -> Request:
        turns = getattr(self.tokenizer, "stop_strings", ()) if question.prompt.is_chat else ()
        ends = self._list_infilling_stops(question.prompt)
        sampling = replace(question.sampling, stops=(*question.sampling.stops, *turns, *ends))
        return Request(question.id, ids, sampling)

    def _list_infilling_stops(self, prompt: Prompt) -> tuple[str, ...]:
        return self.dialect.stops if self.dialect is not None and prompt.suffix is not None else ()

    def encode(self, prompt: Prompt, *, new_tokens: int = 0) -> list[int]:
        """Encodes a prompt; special tokens in its text stay text.

        Args:
            new_tokens: For which a prompt with a context leaves room.

        Raises:
            CheckpointError: If the vocabulary has no infilling sentinels, or the tokenizer no chat template.
        """
        if prompt.is_chat:
            if not self.tokenizer.chat_template:
                raise CheckpointError(
                    "the task is a chat, but the model has no chat template; leave the task out, or name a tuned model"
                )
            return encode_prompt(self.tokenizer, prompt.messages)
        if prompt.suffix is None:
            return self._encode_in_context(prompt, new_tokens) if prompt.context else self._encode_text(prompt.text)
        if hasattr(self.tokenizer, "encode_infilling"):
            try:
                return list(self.tokenizer.encode_infilling(prompt.text, prompt.suffix, max_tokens=prompt.max_tokens))
            except ValueError as error:
                raise CheckpointError(f"the task is infilling, but {error}") from error
        if self.dialect is None:
            raise CheckpointError(
                "the task is infilling, but the vocabulary has no <fim_prefix>, <fim_suffix> and <fim_middle>, nor the "
                f"sentinels of {', '.join(name for name in DIALECTS if name != 'starcoder')}; leave the task out"
            )
        ids = list(self.beginning)
        for text, is_sentinel in self.dialect.arrange(*self._cut(prompt)):
            ids += [self.vocabulary[text]] if is_sentinel else self._encode_plain(text)
        return ids

    def _cut(self, prompt: Prompt) -> tuple[str, str]:
        """Prefix and suffix, cut at their far ends to equal shares if they are longer than the prompt may be."""
        prefix, suffix = prompt.text, prompt.suffix or ""
        if prompt.max_tokens is None:
            return prefix, suffix
        room = prompt.max_tokens - len(self.beginning) - 3
        ends = [self._encode_plain(prefix), self._encode_plain(suffix)]
        if sum(map(len, ends)) <= room:
            return prefix, suffix
        kept = min(len(ends[0]), room - min(len(ends[1]), room // 2))
        before, after = ends[0][len(ends[0]) - kept :], ends[1][: room - kept]
        return self.tokenizer.decode(before), self.tokenizer.decode(after)

    def _encode_in_context(self, prompt: Prompt, new_tokens: int) -> list[int]:
        """A text after as much of its context as there is room for; without any room, the end of the text."""
        room = self.decoder.context - new_tokens - len(self.beginning)
        room = min(room, prompt.max_tokens) if prompt.max_tokens is not None else room
        text = self._encode_plain(prompt.text)
        left = max(0, room - len(text))
        if prompt.max_context_tokens is not None:
            context = self._encode_plain(prompt.context)[: min(left, prompt.max_context_tokens)]
        else:
            context = self._encode_lines(prompt.context, left)
        return [*self.beginning, *context, *text[-max(1, room) :]]

    def _encode_lines(self, text: str, room: int) -> list[int]:
        """As many first lines of a text as there is room for."""
        ids = self._encode_plain(text)
        if len(ids) <= room:
            return ids
        kept = self.tokenizer.decode(ids[:room]).rpartition("\n")[0]
        ids = self._encode_plain(f"{kept}\n\n")
        return ids if kept and len(ids) <= room else []

    def _encode_text(self, text: str) -> list[int]:
        return [*self.beginning, *self._encode_plain(text)]

    def _encode_plain(self, text: str) -> list[int]:
        if hasattr(self.tokenizer, "encode_text"):
            return list(self.tokenizer.encode_text(text))
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def find_beginning(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens that a tokenizer puts before a text of its own accord, such as `<s>`; most code models have none."""
    if hasattr(tokenizer, "encode_text"):
        return []
    bare = list(tokenizer("x", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("x")["input_ids"])
    places = [place for place in range(len(whole) - len(bare) + 1) if whole[place : place + len(bare)] == bare]
    return whole[: places[0]] if places else []
