"""Answers of a model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..text.client import Client, PromptTooLong
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
        try:
            if prompt.is_chat:
                replies = self.client.chat(
                    [{"role": "user", "content": prompt.text}],
                    max_tokens=request.max_new_tokens,
                    samples=request.samples,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    seed=request.seed,
                    stops=request.stops,
                )
            else:
                # Servers read sentinels in a prompt as such.
                infilling = f"<fim_prefix>{prompt.text}<fim_suffix>{prompt.suffix}<fim_middle>"
                replies = self.client.complete(
                    prompt.text if prompt.suffix is None else infilling,
                    max_tokens=request.max_new_tokens,
                    samples=request.samples,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    seed=request.seed,
                    stops=request.stops,
                )
        except PromptTooLong:
            return [Completion("", 0, "prompt too long")] * request.samples
        completions = []
        for reply in replies:
            # Some servers give the text that ended the turn, too.
            text = reply.text.partition(END_OF_TURN)[0].strip() if prompt.is_chat else reply.text
            completions.append(Completion(text, 0, "stop" if reply.finish_reason == "stop" else "length"))
        if len(completions) == 1 < request.samples:  # llama.cpp gives one, whatever n is
            for number in range(1, request.samples):
                completions += self._ask(replace(request, samples=1, seed=request.seed + number))
        return completions
