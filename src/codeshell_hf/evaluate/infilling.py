"""Single-line fill-in-the-middle: one line of a file is taken out and must be written back, letter for letter."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer
from .intervals import interval_of_share

PROFILE = "single-line-infilling-v1"
MIN_LINE, MAX_LINE = 8, 80
MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class InfillingTask:
    """A line to fill in.

    Args:
        id: The document's.
        language: The document's.
        prefix: Everything before the line.
        line: The line, without its end.
        suffix: Everything behind it, its end included.
    """

    id: str
    language: str
    prefix: str
    line: str
    suffix: str


@dataclass(frozen=True)
class InfillingResult:
    """What a model wrote.

    Args:
        task: The task.
        written: The first line of it that is not blank.
        is_exact: Whether it is the line that was taken out, white space at its ends aside.
    """

    task: InfillingTask
    written: str
    is_exact: bool

    def sample(self, *, context: int = 240) -> dict[str, Any]:
        """The result for a page, with the nearest context alone.

        Args:
            context: Characters kept on either side.

        Returns:
            Plain values.
        """
        values = asdict(self.task)
        near = {"prefix": self.task.prefix[-context:], "suffix": self.task.suffix[:context]}
        return {**values, **near, "written": self.written, "is_exact": self.is_exact}


def make_tasks(documents: Iterable[dict[str, str]], *, per_language: int, seed: int) -> list[InfillingTask]:
    """Takes one line out of each document, until each language has enough.

    Args:
        documents: Each with `id`, `language` and `text`.
        per_language: How many tasks a language gets at most.
        seed: Decides the lines.

    Returns:
        Tasks in the order of the documents. The line has between 8 and 80 characters and a letter.
    """
    tasks: list[InfillingTask] = []
    counts: dict[str, int] = {}
    for number, document in enumerate(documents):
        language = document["language"]
        if counts.get(language, 0) >= per_language:
            continue
        lines = document["text"].split("\n")
        fitting = [index for index, line in enumerate(lines) if is_fitting(line)]
        if len(fitting) < 3:
            continue
        index = int(np.random.default_rng([seed, number]).choice(fitting[1:-1]))
        prefix, suffix = "\n".join([*lines[:index], ""]), "\n".join(["", *lines[index + 1 :]])
        tasks.append(InfillingTask(document["id"], language, prefix, lines[index], suffix))
        counts[language] = counts.get(language, 0) + 1
    return tasks


def is_fitting(line: str) -> bool:
    """Whether a line is worth filling in.

    Args:
        line: A line.

    Returns:
        True for 8 to 80 characters with a letter among them.
    """
    stripped = line.strip()
    return MIN_LINE <= len(stripped) <= MAX_LINE and any(c.isalpha() for c in stripped)


@torch.no_grad()
def run_tasks(
    model: CodeShellForCausalLM,
    tokenizer: CodeShellTokenizer,
    tasks: Sequence[InfillingTask],
    *,
    max_prompt_tokens: int,
    batch_size: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[InfillingResult]:
    """Lets a model fill in every line, greedily, prompts of like length together.

    Args:
        model: In evaluation mode.
        tokenizer: With fill-in-the-middle.
        tasks: The tasks.
        max_prompt_tokens: Longer prompts are cut on both sides.
        batch_size: Prompts at a time.
        on_progress: Called with the number of tasks just done.

    Returns:
        Results in the order of the tasks.
    """
    prompts = [tokenizer.encode_infilling(task.prefix, task.suffix, max_tokens=max_prompt_tokens) for task in tasks]
    order = sorted(range(len(tasks)), key=lambda index: len(prompts[index]))
    results: dict[int, InfillingResult] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        longest = max(len(prompts[index]) for index in chosen)
        ids = torch.full((len(chosen), longest), tokenizer.pad_token_id, device=model.device)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(chosen):
            ids[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
            mask[row, longest - len(prompts[index]) :] = 1
        generated = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        for row, index in enumerate(chosen):
            text = tokenizer.decode(generated[row, longest:], skip_special_tokens=True)
            written = next((line for line in text.split("\n") if line.strip()), "")
            results[index] = InfillingResult(tasks[index], written, written.strip() == tasks[index].line.strip())
        on_progress(len(chosen))
    return [results[index] for index in range(len(tasks))]


def score_results(results: Iterable[InfillingResult]) -> dict[str, dict[str, float | int]]:
    """Counts exact matches.

    Args:
        results: What the model wrote.

    Returns:
        `tasks`, `exact`, `exact_match` (0 to 1) and its 95 % interval, `low` to `high`, by language, and "all".
    """
    counts: dict[str, list[int]] = {"all": [0, 0]}
    for result in results:
        for name in (result.task.language, "all"):
            counts.setdefault(name, [0, 0])
            counts[name][0] += 1
            counts[name][1] += result.is_exact
    scores: dict[str, dict[str, float | int]] = {}
    for name, (tasks, exact) in counts.items():
        low, high = interval_of_share(exact, tasks)
        share = exact / tasks if tasks else 0.0
        scores[name] = {
            "tasks": tasks,
            "exact": exact,
            "exact_match": round(share, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    return scores
