"""Answers of a model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from ..errors import RunFailed, SettingsError
from ..tokenization_codeshell import END_OF_TURN
from .generation import Completion, OnDone, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndpointGenerator:
    """Answers by a server that completes text.

    Args:
        url: Its base address, such as `http://127.0.0.1:8000/v1`.
        model: The model's name there.
        token: The server's key, where it wants one.
        calls_at_once: How many are under way together.
        timeout_s: Of one call.
        tries: Calls for a problem before the run stops.
        wait_s: Before the second of them; it doubles each time.
    """

    url: str
    model: str
    token: str | None = None
    calls_at_once: int = 16
    timeout_s: float = 600.0
    tries: int = 5
    wait_s: float = 1.0

    def generate(self, requests: Sequence[Request], on_done: OnDone) -> None:
        """Answers requests, several at a time.

        Args:
            requests: What to answer.
            on_done: Called with each request and its answers as soon as they are there.

        Raises:
            RunFailed: If the server does not answer.
            SettingsError: If it refuses what it is asked.
        """
        with ThreadPoolExecutor(self.calls_at_once) as pool:
            waiting = {pool.submit(self._ask, request): request for request in requests}
            try:
                for done in as_completed(waiting):
                    on_done(waiting[done], done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, request: Request) -> list[Completion]:
        body: dict[str, Any] = {
            "model": self.model,
            "n": request.samples,
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.stops:
            body["stop"] = list(request.stops)
        prompt = request.prompt
        if prompt.is_chat:
            body["messages"] = [{"role": "user", "content": prompt.text}]
            choices = self._post("chat/completions", body)
        else:
            # Servers read sentinels in a prompt as such.
            filled = f"<fim_prefix>{prompt.text}<fim_suffix>{prompt.suffix}<fim_middle>"
            body["prompt"] = prompt.text if prompt.suffix is None else filled
            choices = self._post("completions", body)
        if choices is None:
            return [Completion("", 0, "prompt too long")] * request.samples
        completions = []
        for choice in choices:
            text = (choice["message"]["content"] if prompt.is_chat else choice["text"]) or ""
            if prompt.is_chat:  # some servers give the text that ended the turn, too
                text = text.partition(END_OF_TURN)[0].strip()
            has_stopped = choice.get("finish_reason") == "stop"
            completions.append(Completion(text, 0, "stop" if has_stopped else "length"))
        if len(completions) == 1 < request.samples:  # llama.cpp gives one, whatever n is
            more = [self._repeat(request, number) for number in range(1, request.samples)]
            completions += more
        return completions

    def _repeat(self, request: Request, number: int) -> Completion:
        values = {**vars(request), "samples": 1, "seed": request.seed + number}
        return self._ask(Request(**values))[0]

    def _post(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]] | None:
        # `None` if the server says that the prompt is too long.
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        wait_s = self.wait_s
        for attempt in range(1, self.tries + 1):
            try:
                address = f"{self.url.rstrip('/')}/{path}"
                call = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310
                with urllib.request.urlopen(call, timeout=self.timeout_s) as answer:  # noqa: S310 - the caller's own
                    return list(json.load(answer)["choices"])
            except urllib.error.HTTPError as error:
                said = " ".join(error.read().decode("utf-8", "replace").split())[:160]
                if error.code in (400, 401, 403, 404, 422):
                    if "context" in said or "too long" in said or "maximum" in said:
                        return None
                    raise SettingsError(
                        f"{self.url} refuses {self.model}: {error.code} {said}; check url, model and key"
                    ) from error
                trouble = f"{error.code} {said}"
            except (OSError, ValueError, KeyError) as error:
                trouble = " ".join(str(error).split())[:160]
            if attempt < self.tries:
                time.sleep(wait_s)
                wait_s *= 2
        raise RunFailed(
            f"{self.model} at {self.url} did not answer after {self.tries} tries ({trouble}); what it wrote is kept, "
            "run again when it is up"
        )
