"""Measures how often a judge prefers a model's answers to those of another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import SettingsError
from ..text.client import read_token
from ..text.judge import open_judge
from .models import EvaluatedModel
from .scores import Score, make_score
from .settings import PreferenceSettings, TaskSettings
from .tasks import Task, answer_task, read_task


def read_requests(settings: PreferenceSettings, models: Sequence[str]) -> Task:
    """Reads the requests whose answers are compared.

    Raises:
        SettingsError: If `against` is none of the models, or the judge's key is not in the environment.
    """
    read_token(settings, "judge")  # before anything is generated
    if settings.against not in models:
        raise SettingsError(
            f"judge.against is {settings.against!r}, but the models are {', '.join(models)}; name one of them"
        )
    data = str(settings.requests)
    return read_task(
        "chat", TaskSettings(profile="harmful-requests-v1", data=data, max_new_tokens=settings.max_new_tokens)
    )


def answer_requests(model: EvaluatedModel, requests: Task, folder: Path, *, seed: int) -> dict[str, str]:
    """Generates a model's answers, or reads those of an earlier run; by the request's key."""
    answers = answer_task(model, requests, folder, seed=seed)
    return {key: completions[0].text for key, completions in answers.items()}


def score_preference(
    settings: PreferenceSettings, requests: Task, answers: Mapping[str, Mapping[str, str]], folder: Path
) -> dict[str, Score]:
    """Compares each model's answers with those of `against`: "preferred" by model, where a tie counts as half.

    `answers` are by model, then by the request's key.
    """
    judge = open_judge(settings, folder)
    scores = {}
    for name, own in answers.items():
        if name == settings.against:
            continue
        values = []
        for request in requests.problems:
            prompt = [{"role": "user", "content": request.prompt}]
            better = judge.compare(prompt, own[request.key], answers[settings.against][request.key])
            values.append(0.5 if better is None else float(better == 0))
        score = make_score({"preferred": values}, [request.language for request in requests.problems])
        score.counts = {"problems": len(values), "ties": values.count(0.5)}
        score.notes["preferred"] = (
            f"over {settings.against}, by {settings.model}, asked in both orders; a tie counts as half"
        )
        scores[name] = score
    return scores
