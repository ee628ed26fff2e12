"""Preference pairs from a model's own answers, judged by the prompts' tests or by a judge model."""

import random
from collections.abc import Iterable, Sequence

from tqdm.auto import tqdm

from ..text.chat import Conversation, Message
from ..text.decode import Answer
from ..text.judge import Judge
from .preferences import Pair, PairSet

Answered = tuple[Conversation, Sequence[Answer]]


def pair_by_tests(
    answered: Iterable[Answered], passes: Iterable[bool], *, max_pairs: int, seed: int
) -> tuple[PairSet, int]:
    """Pairs finished answers that pass their prompt's tests with finished ones that do not.

    Args:
        answered: Prompts with tests, and the answers to each.
        passes: Whether each answer passes, in the same order, flattened.
        max_pairs: Limit for each prompt.

    Returns:
        Pairs, and the number of finished answers that passed.
    """
    rng = random.Random(seed)
    verdicts = iter(passes)
    made = PairSet()
    passed = 0
    for conversation, answers in answered:
        # Unfinished answers are run too, but are not trained on.
        judged = [(answer, next(verdicts)) for answer in answers]
        finished = [(answer.text, is_good) for answer, is_good in judged if answer.is_finished]
        passed += sum(is_good for _, is_good in finished)
        pairs = pair_by_verdict(
            conversation.prompt,
            [text for text, _ in finished],
            [is_good for _, is_good in finished],
            max_pairs=max_pairs,
            source="tests",
            rng=rng,
            tests=conversation.tests,
        )
        made.pairs += pairs
        if not pairs:
            is_any_good = any(is_good for _, is_good in finished)
            made.dropped["prompts had good answers alone" if is_any_good else "prompts had no good answer"] += 1
    return made, passed


def pair_by_judge(answered: Sequence[Answered], judge: Judge) -> PairSet:
    """Lets a judge compare the first two distinct finished answers to each prompt, in both orders."""
    made = PairSet()
    for conversation, answers in tqdm(answered, desc="judge", unit="prompt", disable=None):
        texts = list(dict.fromkeys(answer.text for answer in answers if answer.is_finished and answer.text))
        if len(texts) < 2:
            made.dropped["prompts had fewer than two different answers"] += 1
            continue
        better = judge.compare(conversation.prompt, texts[0], texts[1])
        if better is None:
            made.dropped["prompts left the judge undecided"] += 1
            continue
        made.pairs.append(Pair(tuple(conversation.prompt), texts[better], texts[1 - better], "judge"))
    return made


def pair_by_verdict(
    prompt: Sequence[Message],
    answers: Sequence[str],
    is_good: Sequence[bool],
    *,
    max_pairs: int,
    source: str,
    rng: random.Random,
    tests: str | None = None,
) -> list[Pair]:
    """Pairs good answers with bad ones; each bad answer is used once, and duplicates are ignored.

    There is no pair if all answers are good or all are bad.
    """
    verdicts = dict(zip((answer.strip() for answer in answers), is_good, strict=True))
    good = [answer for answer, verdict in verdicts.items() if verdict and answer]
    bad = [answer for answer, verdict in verdicts.items() if not verdict and answer]
    rng.shuffle(good)
    rng.shuffle(bad)
    # Good answers are reused: a confident model writes the same good answer each time.
    count = min(max_pairs, len(bad)) if good else 0
    return [Pair(tuple(prompt), good[index % len(good)], bad[index], source, tests) for index in range(count)]
