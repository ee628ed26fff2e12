"""Answers to prompts, stored as they come, so that a stopped run loses none, and shared among ranks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RunFailed
from ..manifest import hash_values
from ..text.cache import JsonLinesCache
from ..text.chat import Conversation
from ..text.client import Client
from ..text.decode import Answer, sample_answers
from ..text.failures import PromptTooLong
from ..text.sampling import Sampling
from ..tokenization_codeshell import END_OF_TURN
from .settings import SampleSettings

OnAnswers = Callable[[int, list[Answer]], None]


class SampleStore:
    """Stored answers by the number of their prompt; every rank appends to a file of its own.

    Args:
        folder: Holds one file for each origin and rank.
        origin: What the answers depend on besides their prompts, as JSON values.
    """

    def __init__(self, folder: Path, origin: object, conversations: Sequence[Conversation], *, rank: int) -> None:
        self.name = hash_values(origin)[:16]
        self.folder = folder
        self._keys = [f"{number} {hash_values(one.prompt)[:32]}" for number, one in enumerate(conversations)]
        self._own = JsonLinesCache(folder / f"{self.name}-{rank}.jsonl")
        self._others: list[JsonLinesCache] = []
        self.read_others()

    def read_others(self) -> None:
        """Reads what the other ranks, or ranks of an earlier run, have stored."""
        paths = sorted(self.folder.glob(f"{self.name}-*.jsonl"))
        self._others = [JsonLinesCache(path, repairs=False) for path in paths if path != self._own.path]

    def find(self, number: int) -> list[Answer] | None:
        """The answers to a prompt, if they are stored."""
        for cache in (self._own, *self._others):
            row = cache.get(self._keys[number])
            if row is not None and isinstance(answers := row["answers"], list):
                return [Answer(answer["text"], answer["is_finished"]) for answer in answers]
        return None

    def add(self, number: int, answers: Sequence[Answer]) -> None:
        """Stores the answers to a prompt at once."""
        rows = [{"text": answer.text, "is_finished": answer.is_finished} for answer in answers]
        self._own.add(self._keys[number], {"answers": rows})

    def list_missing(self, rank: int, ranks: int) -> list[int]:
        """The numbers of the prompts without answers that this rank is to answer."""
        missing = [number for number in range(len(self._keys)) if self.find(number) is None]
        return missing[rank::ranks]

    def read_all(self) -> list[list[Answer]]:
        """The answers to all prompts, after all ranks are done.

        Raises:
            RunFailed: If some are missing.
        """
        self.read_others()
        answers = [self.find(number) for number in range(len(self._keys))]
        if missing := sum(one is None for one in answers):
            raise RunFailed(f"{missing} of {len(answers)} prompts have no answers in {self.folder}; run again")
        return [one for one in answers if one is not None]


def sample_from_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    numbers: Sequence[int],
    sample: SampleSettings,
    *,
    seed: int,
    on_answers: OnAnswers,
) -> None:
    """Samples answers to the prompts of these numbers; they do not depend on which others are answered here."""
    sample_answers(
        model,
        tokenizer,
        [conversations[number].prompt for number in numbers],
        seed=seed,
        ids=[str(number) for number in numbers],
        on_answers=lambda place, answers: on_answers(numbers[place], answers),
        **sample.model_dump(),
    )


def sample_from_server(
    client: Client,
    conversations: Sequence[Conversation],
    numbers: Sequence[int],
    sample: SampleSettings,
    *,
    seed: int,
    on_answers: OnAnswers,
) -> None:
    """Requests answers of an OpenAI-compatible server, several prompts at a time.

    A prompt that does not fit its context gets answers that are empty and not finished.

    Raises:
        RunFailed: If the server does not answer.
        SettingsError: If it rejects a request.
    """

    def ask(number: int) -> list[Answer]:
        sampling = Sampling(
            sample.max_new_tokens,
            sample.temperature,
            seed=seed + number * sample.per_prompt,
            samples=sample.per_prompt,
            stops=(END_OF_TURN,),
        )
        try:
            replies = client.chat(conversations[number].prompt, sampling)
        except PromptTooLong:
            return [Answer("", is_finished=False)] * sample.per_prompt
        return [
            Answer(reply.text.strip(), reply.finish_reason not in (None, "length", "max_tokens")) for reply in replies
        ]

    for number, answers in client.map(ask, numbers):
        on_answers(number, answers)
