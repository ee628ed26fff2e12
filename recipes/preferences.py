"""Makes pairs of a better and a worse answer: a model's own, judged by tests or by an endpoint, or from files.

python -m recipes.preferences recipes/nano/preferences.yaml
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import Section
from codeshell_hf.stages.numerics import PrecisionSettings, read_config, settle_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main
from recipes.examples import open_tokenizer, read_all_conversations

if TYPE_CHECKING:
    from codeshell_hf.align.preferences import Pair
    from codeshell_hf.text.chat import Conversation
    from codeshell_hf.text.decode import Answer


class SampleSettings(Section):
    """How a model answers."""

    per_prompt: int = Field(default=8, gt=1, description="answers to each prompt")
    max_new_tokens: int = Field(gt=0, description="an answer that is longer is unfinished")
    temperature: float = Field(default=1.0, gt=0, description="of sampling")
    batch_size: int = Field(default=64, gt=0, description="answers at a time")


class JudgeSettings(Section):
    """An OpenAI-compatible endpoint that compares answers to prompts without tests."""

    url: str = Field(description="such as http://127.0.0.1:8000/v1")
    model: str = Field(description="the judge's name there")
    token_variable: str | None = Field(default=None, description="environment variable that holds its key")
    max_requests: int = Field(default=1000, gt=0, description="budget of a run; each pair costs two")


class Settings(StageSettings, SandboxSettings, PrecisionSettings):
    """Settings of making preferences."""

    model: Path | None = Field(default=None, description="folder of the model that answers; null reads files alone")
    prompts: tuple[Path, ...] = Field(default=(), description="conversations; their last answer is not used")
    sample: SampleSettings | None = Field(default=None, description="how the model answers")
    judge: JudgeSettings | None = Field(default=None, description="for prompts without tests")
    files: tuple[Path, ...] = Field(default=(), description="pairs made elsewhere: prompt, chosen, rejected")
    max_pairs_per_prompt: int = Field(default=4, gt=0, description="so that no prompt outweighs the others")
    seed: int = Field(default=0, ge=0, description="decides samples and which answers meet")


def run(settings: Settings, work: Work) -> None:
    """Makes the pairs and says how many each source gave.

    Args:
        settings: What to pair.
        work: Where to write `pairs.jsonl`.

    Raises:
        DataError: If no pair came of it.
    """
    from codeshell_hf.align.preferences import read_pairs, write_pairs
    from codeshell_hf.errors import DataError

    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    if settings.model is not None:
        made, reasons = judge_samples(settings, work)
        pairs += made
        dropped += reasons
    for path in settings.files:
        reading = read_pairs(path)
        pairs += reading.pairs
        dropped += reading.dropped
    named = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "nothing was dropped"
    if not pairs:
        raise DataError(f"no pair came of it ({named}); sample more, at a higher temperature, or name files of pairs")
    write_pairs(work.folder / "pairs.jsonl", pairs)
    by_source = Counter(pair.source for pair in pairs)
    work.counts = {"pairs": len(pairs), "by_source": dict(by_source), "dropped": dict(dropped), **work.counts}
    work.report.append(f"{len(pairs)} pairs: " + ", ".join(f"{count} by {name}" for name, count in by_source.items()))
    work.report.append(f"without a pair: {named}")


def judge_samples(settings: Settings, work: Work) -> tuple[list["Pair"], Counter[str]]:
    """Lets the model answer, and judges what it says.

    Args:
        settings: Which model, prompts and judges.
        work: For what is measured.

    Returns:
        Pairs, and how many prompts gave none, by reason.

    Raises:
        SettingsError: If there is nothing to answer or no way to.
    """
    import torch
    from tqdm.auto import tqdm

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.text.decode import sample_answers
    from codeshell_hf.train.weights import load_model

    if settings.sample is None or not settings.prompts or settings.model is None:
        raise SettingsError("model is given, so prompts and sample are needed too; add them or set model: null")
    conversations = read_all_conversations(settings.prompts)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = settings.model
    precision = settle_precision(settings.precision, lambda: read_config(path), work, kept=work.folder)
    model = load_model(str(path), dtype=precision.dtype)
    with tqdm(total=len(conversations), desc="sample", unit="prompt", disable=None) as bar:
        answers = sample_answers(
            model.to(device),
            open_tokenizer(settings.model),
            [conversation.prompt for conversation in conversations],
            seed=settings.seed,
            on_progress=bar.update,
            **settings.sample.model_dump(),
        )
    drawn = [answer for some in answers for answer in some]
    work.counts["samples"] = len(drawn)
    work.measures["finished_fraction"] = round(sum(answer.is_finished for answer in drawn) / len(drawn), 4)
    tested = [index for index, conversation in enumerate(conversations) if conversation.tests]
    others = [index for index, conversation in enumerate(conversations) if not conversation.tests]
    pairs, dropped = judge_by_tests(settings, work, [conversations[i] for i in tested], [answers[i] for i in tested])
    if others and settings.judge is not None:
        more, reasons = judge_by_endpoint(
            settings, work, [conversations[i] for i in others], [answers[i] for i in others]
        )
        pairs += more
        dropped += reasons
    elif others:
        dropped["prompts have neither tests nor a judge"] += len(others)
    return pairs, dropped


def judge_by_tests(
    settings: Settings, work: Work, conversations: Sequence["Conversation"], answers: Sequence[Sequence["Answer"]]
) -> tuple[list["Pair"], Counter[str]]:
    """Runs every answer with its prompt's tests in the sandbox.

    Args:
        settings: Which sandbox.
        work: For what is measured.
        conversations: With tests.
        answers: To each.

    Returns:
        Pairs, and how many prompts gave none, by reason.
    """
    from tqdm.auto import tqdm

    from codeshell_hf.align.preferences import pair_by_verdict
    from codeshell_hf.sandbox import Program

    if not conversations:
        return [], Counter()
    programs = [
        Program(answer.code, conversation.tests or "")
        for conversation, some in zip(conversations, answers, strict=True)
        for answer in some
    ]
    with (
        settings.open_sandbox() as sandbox,
        tqdm(total=len(programs), desc="run tests", unit="program", disable=None) as bar,
    ):
        verdicts = iter(sandbox.run(programs, on_progress=bar.update))
    rng = random.Random(settings.seed)
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    passed = 0
    for conversation, some in zip(conversations, answers, strict=True):
        # What did not stop by itself is judged too, but is no text to learn from.
        judged = [(answer, verdict.passed) for answer, verdict in zip(some, verdicts, strict=False)]
        finished = [(answer.text, is_good) for answer, is_good in judged if answer.is_finished]
        passed += sum(is_good for _, is_good in finished)
        made = pair_by_verdict(
            conversation.prompt,
            [text for text, _ in finished],
            [is_good for _, is_good in finished],
            max_pairs=settings.max_pairs_per_prompt,
            source="tests",
            rng=rng,
            tests=conversation.tests,
        )
        pairs += made
        if not made:
            is_any_good = any(is_good for _, is_good in finished)
            dropped["prompts had good answers alone" if is_any_good else "prompts had no good answer"] += 1
    work.measures["pass_rate"] = round(passed / len(programs), 4)
    return pairs, dropped


def judge_by_endpoint(
    settings: Settings, work: Work, conversations: Sequence["Conversation"], answers: Sequence[Sequence["Answer"]]
) -> tuple[list["Pair"], Counter[str]]:
    """Lets an endpoint compare two answers to each prompt.

    Args:
        settings: Which endpoint.
        work: Keeps what it said.
        conversations: Prompts.
        answers: To each.

    Returns:
        Pairs, and how many prompts gave none, by reason.

    Raises:
        SettingsError: If its key is not in the environment.
    """
    from tqdm.auto import tqdm

    from codeshell_hf.align.preferences import Pair
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.text.cache import JsonLinesCache
    from codeshell_hf.text.client import Client
    from codeshell_hf.text.judge import Judge

    given = settings.judge
    if given is None:
        return [], Counter()
    if given.token_variable and given.token_variable not in os.environ:
        raise SettingsError(f"judge.token_variable is {given.token_variable}, which is not set; export it")
    token = os.environ[given.token_variable] if given.token_variable else None
    client = Client(given.url, given.model, token)
    judge = Judge(client, JsonLinesCache(work.folder / "judge.jsonl"), given.max_requests)
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for conversation, some in zip(tqdm(conversations, desc="judge", unit="prompt", disable=None), answers, strict=True):
        texts = list(dict.fromkeys(answer.text for answer in some if answer.is_finished and answer.text))
        if len(texts) < 2:
            dropped["prompts had fewer than two different answers"] += 1
            continue
        better = judge.compare(conversation.prompt, texts[0], texts[1])
        if better is None:
            dropped["prompts left the judge undecided"] += 1
            continue
        pairs.append(Pair(tuple(conversation.prompt), texts[better], texts[1 - better], "judge"))
    work.counts["judge_requests"] = judge.budget.used
    return pairs, dropped


STAGE = Stage(
    name="preferences",
    settings=Settings,
    inputs=lambda settings: {
        **({"model": settings.model} if settings.model else {}),
        **{f"{path.name}": path for path in (*settings.prompts, *settings.files)},
    },
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
