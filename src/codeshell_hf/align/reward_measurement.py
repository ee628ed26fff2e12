"""Rewards of a policy's answers to held-out prompts before and after training."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..errors import DataError
from ..modeling_codeshell import CodeShellForCausalLM
from ..text.chat import Conversation, encode_prompt
from ..text.decode import Answer, sample_answers
from ..text.intervals import Change, measure_change
from ..text.nearest_answer import NearestAnswers, find_request
from ..tokenization_codeshell import CodeShellTokenizer
from .examples import read_all_conversations
from .reward_model import RewardModel, score_texts
from .rewards import WeightedReward
from .settings import MeasureSettings
from .shared_work import choose_share, count_ranks, gather_results, sum_over_ranks

WEIGHTED = "weighted"
FINISHED = "finished"


class RewardMeasurement:
    """Measures the rewards of a policy before and after training, on the same prompts and with the same seed.

    Args:
        settings: `None` measures nothing.
        path: Keeps the first measurement for a resumed run.
    """

    def __init__(self, settings: MeasureSettings | None, path: Path, *, seed: int) -> None:
        self._settings = settings
        self._path = path
        self._seed = seed
        self.taken: list[dict[str, list[float]]] = []
        self.copied: dict[str, list[float]] = {}

    def take_first(
        self, model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, rewards: Sequence[WeightedReward]
    ) -> None:
        """Measures the policy before training, or reads that measurement."""
        if self._path.exists():
            self.taken.append(json.loads(self._path.read_text(encoding="utf-8")))
            return
        self.take(model, tokenizer, rewards)
        if self.taken and count_ranks()[0] == 0:
            self._path.write_text(json.dumps(self.taken[0]), encoding="utf-8")

    def take(
        self, model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, rewards: Sequence[WeightedReward]
    ) -> None:
        """Measures the policy, one mean per prompt and reward."""
        if self._settings is not None:
            measured = measure_rewards(
                model,
                tokenizer,
                read_all_conversations(self._settings.prompts),
                rewards,
                seed=self._seed,
                **self._settings.model_dump(exclude={"prompts", "copy_from"}),
            )
            self.taken.append(measured)

    def take_copies(
        self, model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, rewards: Sequence[WeightedReward]
    ) -> None:
        """Measures copies of the nearest answers in `copy_from`; the model only says which prompts fit."""
        if self._settings is None or not self._settings.copy_from:
            return
        room = find_room(model, self._settings.max_new_tokens, self._settings.max_prompt_tokens)
        asked = choose_fitting(tokenizer, read_all_conversations(self._settings.prompts), room)
        nearest = NearestAnswers(read_all_conversations(self._settings.copy_from))
        own = choose_share(len(asked))
        copies = [nearest.copy(find_request(asked[place].prompt), asked[place].tests) for place in own]
        answers = [[Answer(text, is_finished=True, ids=tuple(tokenizer.encode(text)))] for text in copies]
        scores = score_answers(
            [asked[place] for place in own], answers, rewards, device=model.device, batch_size=self._settings.batch_size
        )
        self.copied = gather_scores(own, scores, len(asked))

    def compare(self) -> dict[str, Change]:
        """Compares the first measurement with the last, by reward; empty if nothing was measured."""
        return compare_rewards(self.taken[0], self.taken[-1], seed=self._seed) if self.taken else {}

    def compare_with_copies(self) -> dict[str, Change]:
        """Compares copied answers, as `before`, with the last measurement, by reward; empty without `copy_from`."""
        return compare_rewards(self._list_copied(), self.taken[-1], seed=self._seed) if self.taken else {}

    def _list_copied(self) -> dict[str, list[float]]:
        return {name: values for name, values in self.copied.items() if name not in ("tokens", FINISHED)}

    def write(self, path: Path) -> None:
        """Writes the means of each prompt as JSON."""
        values = {"before": self.taken[0], "after": self.taken[-1]}
        if self.copied:
            values["copied"] = self._list_copied()
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def measure_rewards(
    model: CodeShellForCausalLM,
    tokenizer: CodeShellTokenizer,
    conversations: Sequence[Conversation],
    rewards: Sequence[WeightedReward],
    *,
    per_prompt: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
    max_prompt_tokens: int | None = None,
) -> dict[str, list[float]]:
    """Samples the policy's answers to held-out prompts and scores them; the ranks share the prompts.

    The model may be sharded over the ranks. Prompts without room for an answer are left out.

    Returns:
        As `score_answers`, the same on all ranks.

    Raises:
        DataError: If no prompt has room for an answer.
    """
    room = find_room(model, max_new_tokens, max_prompt_tokens)
    fitting = choose_fitting(tokenizer, conversations, room)
    if not fitting:
        raise DataError(
            f"none of {len(conversations)} prompts to measure on has at most {room} tokens; lower "
            "measure.max_new_tokens, or raise measure.max_prompt_tokens if it is set"
        )
    own = choose_share(len(fitting))
    with tqdm(total=len(own), desc="measure", unit="prompt", disable=None) as bar:
        answers = sample_answers(
            model,
            tokenizer,
            [fitting[place].prompt for place in own],
            ids=[f"{place}" for place in own],
            per_prompt=per_prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
            on_answers=lambda place, answers: bar.update(),
            is_any_open=lambda is_open: sum_over_ranks(is_open, model.device) > 0,
        )
    asked = [fitting[place] for place in own]
    scores = score_answers(asked, answers, rewards, device=model.device, batch_size=batch_size)
    return gather_scores(own, scores, len(fitting))


def find_room(model: CodeShellForCausalLM, max_new_tokens: int, max_prompt_tokens: int | None) -> int:
    """The longest prompt in tokens: that which leaves room for an answer, or a shorter limit."""
    room = int(model.config.n_positions) - max_new_tokens
    return room if max_prompt_tokens is None else min(room, max_prompt_tokens)


def choose_fitting(
    tokenizer: CodeShellTokenizer, conversations: Sequence[Conversation], max_prompt_tokens: int
) -> list[Conversation]:
    """The conversations whose prompts leave room for an answer."""
    return [one for one in conversations if len(encode_prompt(tokenizer, one.prompt)) <= max_prompt_tokens]


def gather_scores(own: Sequence[int], scores: Mapping[str, Sequence[float]], count: int) -> dict[str, list[float]]:
    """Puts together the scores of all ranks; `own` are the numbers of this rank's prompts, of `count`."""
    rows = gather_results(
        {place: {name: values[row] for name, values in scores.items()} for row, place in enumerate(own)}
    )
    return {name: [rows[place][name] for place in range(count)] for name in scores}


def score_answers(
    conversations: Sequence[Conversation],
    answers: Sequence[Sequence[Answer]],
    rewards: Sequence[WeightedReward],
    *,
    device: torch.device,
    batch_size: int = 64,
) -> dict[str, list[float]]:
    """Scores answers, equally many to each prompt, by every reward, including those of weight 0.

    Args:
        batch_size: Answers that a reward model reads at a time.

    Returns:
        Means for each prompt: of every reward by name (NaN if one is missing), of their weighted sum ("weighted", if
        some reward has a weight), of "tokens", and of the share of answers that "finished".
    """
    pairs = [(prompt, answer) for prompt, group in zip(conversations, answers, strict=True) for answer in group]
    values = {reward.name: _score(reward, pairs, device, batch_size) for reward in rewards}
    weights = {reward.name: reward.weight for reward in rewards if reward.weight}
    if weights:
        values[WEIGHTED] = weigh(values, weights)
    values["tokens"] = [float(answer.tokens) for _, answer in pairs]
    values[FINISHED] = [float(answer.is_finished) for _, answer in pairs]
    size = len(answers[0])
    return {
        name: [sum(column[first : first + size]) / size for first in range(0, len(pairs), size)]
        for name, column in values.items()
    }


def _score(
    reward: WeightedReward, pairs: Sequence[tuple[Conversation, Answer]], device: torch.device, batch_size: int
) -> list[float]:
    if isinstance(reward.scorer, RewardModel):
        reward.scorer.model.to(device)
        texts = [[*conversation.prompt, answer.turn] for conversation, answer in pairs]
        return score_texts(reward.scorer, texts, batch_size=batch_size)
    scores = reward.scorer(
        completions=[[answer.turn] for _, answer in pairs],
        prompts=[conversation.prompt for conversation, _ in pairs],
        tests=[conversation.tests for conversation, _ in pairs],
        reference=[conversation.reference for conversation, _ in pairs],
        completion_ids=[list(answer.ids) for _, answer in pairs],
    )
    return [math.nan if score is None else float(score) for score in scores]


def weigh(values: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """The weighted sum of rewards; as in TRL, a missing reward (NaN) adds nothing.

    >>> weigh({"a": [1.0, 2.0], "b": [1.0, math.nan], "judge": [9.0, 9.0]}, {"a": 1.0, "b": -0.5})
    [0.5, 2.0]
    """
    columns = zip(*(values[name] for name in weights), strict=True)
    return [
        sum(weight * value for weight, value in zip(weights.values(), row, strict=True) if not math.isnan(value))
        for row in columns
    ]


def compare_rewards(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], *, seed: int
) -> dict[str, Change]:
    """Compares measurements before and after, over the prompts with both values; at least two are needed."""
    changes: dict[str, Change] = {}
    for name, old in before.items():
        known = [pair for pair in zip(old, after[name], strict=True) if not any(map(math.isnan, pair))]
        if len(known) > 1:
            changes[name] = measure_change([first for first, _ in known], [last for _, last in known], seed=seed)
    return changes
