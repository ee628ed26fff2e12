"""A judge model behind a server, which compares two answers in both orders; verdicts are cached on disk."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from .cache import JsonLinesCache
from .chat import Message
from .client import Budget, Client, open_client
from .sampling import Sampling
from .settings import JudgeSettings

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


class Judge:
    """Compares answers. Judges favour a position, so only a verdict that holds in both orders counts.

    A repeated run sends no request twice: verdicts are in `cache`. `max_requests` limits this run.
    """

    def __init__(self, client: Client, cache: JsonLinesCache, max_requests: int) -> None:
        self.client = client
        self.cache = cache
        self.budget = Budget(max_requests)

    def compare(self, prompt: Sequence[Message], first: str, second: str) -> int | None:
        """The index of the better answer; `None` for a tie, contradictory verdicts or a spent budget.

        Raises:
            RunFailed: If the server does not answer.
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
        # In one pass: a request may contain {first} itself.
        text = PROMPT.format(request=request, first=first, second=second)
        key = hashlib.sha256(f"{self.client.model}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        if (row := self.cache.get(key)) is not None:
            return str(row["verdict"])
        if not self.budget.take():
            return None
        [reply, *_] = self.client.chat([{"role": "user", "content": text}], Sampling(8))
        match = VERDICT.search(reply.text)
        verdict = match.group(1).lower() if match else "unreadable"
        self.cache.add(key, {"verdict": verdict, "said": reply.text})
        return verdict


def open_judge(settings: JudgeSettings, folder: Path) -> Judge:
    """Opens the judge of the settings' section `judge`; its verdicts are kept in a folder.

    Raises:
        SettingsError: If its key is not in the environment.
    """
    cache = JsonLinesCache(folder / "judge.jsonl")
    return Judge(open_client(settings, "judge"), cache, settings.max_requests)
