"""Answers of a model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..text.client import Client, PromptTooLong
from ..text.sampling import Sampling
from ..tokenization_codeshell import END_OF_TURN
from .generation import Completion, OnDone, Request


@dataclass(frozen=True)
class EndpointGenerator:
    """Generates answers with a server that completes text."""

    client: Client

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests, several at a time.

        Raises:
            RunFailed: If the server does not answer.
            SettingsError: If it refuses what it is asked.
        """
        for request, completions in self.client.map(self._ask, requests):
            on_done(request, completions)

    def _ask(self, request: Request) -> list[Completion]:
        prompt = request.prompt
        sampling = Sampling(request.max_new_tokens, request.temperature, request.top_p, request.seed)
        try:
            if prompt.is_chat:
                messages = [{"role": "user", "content": prompt.text}]
                replies = self.client.chat(messages, sampling, samples=request.samples, stops=request.stops)
            else:
                # Servers read sentinels in a prompt as such.
                infilling = f"<fim_prefix>{prompt.text}<fim_suffix>{prompt.suffix}<fim_middle>"
                text = prompt.text if prompt.suffix is None else infilling
                replies = self.client.complete(text, sampling, samples=request.samples, stops=request.stops)
        except PromptTooLong:
            return [Completion("", 0, "prompt too long")] * request.samples
        completions = []
        for reply in replies:
            # Some servers give the text that ended the turn, too.
            text = reply.text.partition(END_OF_TURN)[0].strip() if prompt.is_chat else reply.text
            is_cut = reply.finish_reason in (None, "length", "max_tokens")
            completions.append(Completion(text, 0, "length" if is_cut else "stop"))
        return completions
