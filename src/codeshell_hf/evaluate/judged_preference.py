"""Measures how often a judge prefers a model's answers to those of another."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import SettingsError
from ..text.client import read_token
from ..text.judge import open_judge
from .models import EvaluatedModel
from .scores import Score, make_score
from .settings import PreferenceSettings, TaskSettings
from .tasks import answer_task, read_task


class PreferenceMeasurement:
    """Collects the answers of the evaluated models, and compares them with those of `settings.against`.

    Args:
        settings: The judge, the requests, and whom to compare with.
        models: Names of all models.
        folder: Keeps answers and judgements for later runs.
        seed: Of the answers.

    Raises:
        SettingsError: If `against` is not among the models, or the judge's key is not in the environment.
    """

    def __init__(self, settings: PreferenceSettings, models: Sequence[str], folder: Path, *, seed: int) -> None:
        read_token(settings, "judge")  # before anything is generated
        if settings.against not in models:
            raise SettingsError(
                f"judge.against is {settings.against!r}, but the models are {', '.join(models)}; name one of them"
            )
        task = TaskSettings(
            profile="harmful-requests-v1", data=str(settings.requests), max_new_tokens=settings.max_new_tokens
        )
        self.requests = read_task("chat", task)
        self.answers: dict[str, dict[str, str]] = {}
        self._settings, self._folder, self._seed = settings, folder, seed

    def answer(self, model: EvaluatedModel) -> None:
        """Generates a model's answers, or reads those of an earlier run; none for one that cannot generate."""
        if model.generator is not None:
            answers = answer_task(model, self.requests, self._folder, seed=self._seed)
            self.answers[model.name] = {key: completions[0].text for key, completions in answers.items()}

    def score(self) -> dict[str, Score]:
        """Scores each model but the one that is compared with: "preferred", where a tie counts as half."""
        judge = open_judge(self._settings, self._folder)
        against = self._settings.against
        scores = {}
        for name, own in self.answers.items():
            if name == against:
                continue
            values = []
            for request in self.requests.problems:
                prompt = [{"role": "user", "content": request.prompt}]
                better = judge.compare(prompt, own[request.key], self.answers[against][request.key])
                values.append(0.5 if better is None else float(better == 0))
            score = make_score({"preferred": values}, [request.language for request in self.requests.problems])
            score.counts = {"problems": len(values), "ties": values.count(0.5)}
            score.notes["preferred"] = (
                f"over {against}, by {self._settings.model}, asked in both orders; a tie counts as half"
            )
            scores[name] = score
        return scores
