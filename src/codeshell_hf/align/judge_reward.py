"""The score of a judge model behind a server, as a reward."""

from collections.abc import Sequence

from ..text.chat import Message, clean_answer
from ..text.judge import Judge


class JudgeReward:
    """A judge's score from 0 to 1; 0 for an answer that is cut off, `None` if the judge gives no score."""

    __name__ = "judge"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(
        self, completions: Sequence[list[Message]], prompts: Sequence[list[Message]], **_: object
    ) -> list[float | None]:
        """Has every finished answer judged, several at a time; equal ones once."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        asked = {
            (repr(prompt), text): (prompt, text)
            for prompt, (text, is_finished) in zip(prompts, answers, strict=True)
            if is_finished
        }
        keys = list(asked)
        scores = dict(self.judge.client.map(lambda key: self.judge.score(*asked[key]), keys))
        return [
            scores[repr(prompt), text] if is_finished else 0.0
            for prompt, (text, is_finished) in zip(prompts, answers, strict=True)
        ]
