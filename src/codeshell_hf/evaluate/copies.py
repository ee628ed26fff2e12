"""The copying baseline as a model that is evaluated."""

from collections.abc import Sequence
from pathlib import Path

from ..text.conversation_files import read_conversations
from ..text.nearest_answer import NearestAnswers
from .generation import Completion, OnDone, Question


class CopyGenerator:
    """Answers a chat with a copy of the answer to the most similar request."""

    def __init__(self, nearest: NearestAnswers) -> None:
        self.nearest = nearest

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        """Answers every question; all samples are the same."""
        for question in questions:
            text = self.nearest.copy(question.prompt.text)
            on_done(question, [Completion(text, len(text.split()), "stop")] * question.sampling.samples)


def open_copies(paths: Sequence[Path]) -> CopyGenerator:
    """Reads the conversations to copy from."""
    return CopyGenerator(NearestAnswers(one for path in paths for one in read_conversations(path)))
