"""A judge behind an OpenAI-compatible endpoint, asked twice, which remembers what it said."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RunFailed
from .conversations import Message

PROMPT = """Two answers to a programming request follow. Judge which one serves the person better: first whether it is \
correct and does all that was asked, then safety, then clarity. Do not favour the longer or the first one.

[Request]
{request}

[Answer A]
{first}

[Answer B]
{second}

Reply with one line: "A" if A is better, "B" if B is better, "tie" if neither is."""
VERDICT = re.compile(r"\b(A|B|tie)\b", re.IGNORECASE)


@dataclass
class Judge:
    """Compares answers.

    Each pair is asked for in both orders, since judges favour a place; only what agrees counts. Answers are kept in a
    file, so a run that is repeated asks nothing twice.

    Args:
        url: Base address of the endpoint, such as `http://127.0.0.1:8000/v1`.
        model: The judge's name there.
        cache: JSON Lines of what it said.
        max_requests: Budget of this run; nothing is asked beyond it.
        token: The endpoint's key, where it wants one.
        retries: How often a request that failed is made again.
        wait_s: Before the first of them; it doubles each time.
    """

    url: str
    model: str
    cache: Path
    max_requests: int
    token: str | None = None
    retries: int = 4
    wait_s: float = 1.0
    requests: int = 0
    _known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from huggingface_hub import InferenceClient

        self._client = InferenceClient(base_url=self.url, api_key=self.token or "none", timeout=120)
        if self.cache.exists():
            # A kill may have cut the last line short.
            for line in self.cache.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue
                self._known[entry["key"]] = entry["verdict"]

    def compare(self, prompt: Sequence[Message], first: str, second: str) -> int | None:
        """Compares two answers.

        Args:
            prompt: What they answer.
            first: One answer.
            second: The other.

        Returns:
            0 or 1 for the better one; `None` if the judge sees none, contradicts itself, or the budget is spent.

        Raises:
            RunFailed: If the endpoint does not answer.
        """
        verdicts = []
        for answers in ((first, second), (second, first)):
            verdict = self._ask(prompt, *answers)
            if verdict not in ("a", "b"):
                return None
            verdicts.append("ab".index(verdict))
        return verdicts[0] if verdicts[0] != verdicts[1] else None

    def _ask(self, prompt: Sequence[Message], first: str, second: str) -> str | None:
        request = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        text = PROMPT.format(request=request, first=first, second=second)
        key = hashlib.sha256(f"{self.model}\n{text}".encode()).hexdigest()
        if key not in self._known:
            if self.requests >= self.max_requests:
                return None
            self.requests += 1
            said = self._request(text)
            found = VERDICT.search(said)
            self._known[key] = found.group(1).lower() if found else "unreadable"
            with self.cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "verdict": self._known[key], "said": said}) + "\n")
        return self._known[key]

    def _request(self, text: str) -> str:

        wait_s = self.wait_s
        attempt = 0
        while True:
            attempt += 1
            try:
                reply = self._client.chat_completion(
                    [{"role": "user", "content": text}], model=self.model, max_tokens=8, temperature=0.0
                )
                return str(reply.choices[0].message.content)
            except Exception as error:  # the client's HTTP library, and so its errors, change from version to version
                if attempt > self.retries:
                    raise RunFailed(
                        f"the judge at {self.url} did not answer after {attempt} tries "
                        f"({' '.join(str(error).split())[:120]}); what it said is kept, run again when it is up"
                    ) from error
            time.sleep(wait_s)
            wait_s *= 2
