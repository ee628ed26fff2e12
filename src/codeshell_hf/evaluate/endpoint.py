"""Generates answers with an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..text.client import Client
from ..text.failures import PromptTooLong
from ..text.infilling_dialects import DIALECTS, InfillingDialect
from ..text.replies import Reply
from ..text.sampling import Sampling
from ..tokenization_codeshell import END_OF_TURN
from .generation import Completion, OnDone, Question


@dataclass(frozen=True)
class EndpointGenerator:
    """Generates answers with a server; `dialect` is how its model is asked to fill in."""

    client: Client
    dialect: InfillingDialect = DIALECTS["starcoder"]

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        """Answers questions concurrently.

        Raises:
            RunFailed: If the server does not answer.
            SettingsError: If it rejects a request.
        """
        for question, completions in self.client.map(self._ask, questions):
            on_done(question, completions)

    def _ask(self, question: Question) -> list[Completion]:
        prompt, sampling = question.prompt, question.sampling
        try:
            if prompt.is_chat:
                replies = self.client.chat(prompt.messages, sampling)
            elif prompt.suffix is not None:
                replies = self.client.complete(self.dialect.write(prompt.text, prompt.suffix), sampling)
            else:
                replies = self._continue(prompt.context, prompt.text, sampling)
        except PromptTooLong:
            return [Completion("", 0, "prompt too long")] * sampling.samples
        completions = []
        for reply in replies:
            # Some servers include the text that ended the turn.
            text = reply.text.partition(END_OF_TURN)[0].strip() if prompt.is_chat else reply.text
            for stop in self.dialect.stops if prompt.suffix is not None else ():
                text = text.partition(stop)[0]
            is_cut = reply.finish_reason in (None, "length", "max_tokens")
            completions.append(Completion(text, 0, "length" if is_cut else "stop"))
        return completions

    def _continue(self, context: str, text: str, sampling: Sampling) -> list[Reply]:
        """Continues a text after as much of its context as there is room for, by halves: the tokens are not known."""
        while True:
            try:
                return self.client.complete(context + text, sampling)
            except PromptTooLong:
                if not context:
                    raise
                lines = context.splitlines(keepends=True)
                context = "".join(lines[: len(lines) // 2])
