"""Generation inside TRL's trainers that ends with the assistant's turn, by a token or by the text `|<end>|`.

A model that was not trained to add the end of text, such as the released chat model, ends its turn with the text alone.
TRL only knows end tokens: without this module such answers run on to the limit, and count as cut off.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from ..text.decode import Answer, has_stop, read_answer

if TYPE_CHECKING:
    Trainer = Any
else:
    Trainer = object


class TurnEnd(StoppingCriteria):  # type: ignore[misc, unused-ignore]  # transformers is not typed
    """Stops a row of `generate` when its new tokens complete a stop text.

    Args:
        prompt_tokens: Length of the padded prompts, in which a stop does not count.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        self.prompt_tokens = prompt_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **_: object) -> Tensor:
        """Whether each row has ended, shape (B,)."""
        rows = input_ids[:, self.prompt_tokens :].tolist()
        ended = [has_stop(self.tokenizer, row, self.stops) for row in rows]
        return torch.tensor(ended, device=input_ids.device, dtype=torch.bool)


def cut_at_stop(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: Sequence[str]) -> tuple[list[int], bool]:
    """Cuts tokens after the one that completes the first stop text; also whether there was one."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False)
    if any(stop in text for stop in stops):
        for end in range(1, len(ids) + 1):
            if has_stop(tokenizer, ids[:end], stops):
                return list(ids[:end]), True
    return list(ids), False


@contextmanager
def stopping_at(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> Iterator[None]:
    """Within the block, `model.generate` also stops at texts."""
    generate = model.generate

    def generate_turns(*, input_ids: Tensor, **options: object) -> Tensor:
        criteria = StoppingCriteriaList([TurnEnd(tokenizer, stops, input_ids.shape[1])])
        # Each forward pass gathers weights of all ranks, so that none may stop before the others.
        # transformers knows that of ZeRO-3, but not of a model that accelerate sharded by FSDP2.
        synced = {"synced_gpus": True} if isinstance(model, FSDPModule) else {}
        tokens: Tensor = generate(input_ids=input_ids, stopping_criteria=criteria, **synced, **options)
        return tokens

    model.generate = generate_turns
    try:
        yield
    finally:
        del model.generate


class EndsTurns(Trainer):  # type: ignore[misc, unused-ignore]  # mixed into a class of TRL, which is not typed
    """Mixed into TRL's RLOO and GRPO trainers: answers end with the turn, and what follows is not learned from.

    Rewards get each answer as `Answer.turn` says, as in a measurement of the policy.
    """

    def _generate_single_turn(self, *given: Any, **named: Any) -> Any:
        tokenizer = self.processing_class
        stops = tuple(tokenizer.stop_strings)
        with stopping_at(self.accelerator.unwrap_model(self.model), tokenizer, stops):
            generated = super()._generate_single_turn(*given, **named)
        # RLOO returns token ids, GRPO a pair of token ids and log-probabilities.
        ids, logprobs = generated if isinstance(generated, tuple) else (generated, None)
        cut = [cut_at_stop(tokenizer, row, stops)[0] for row in ids]
        if not isinstance(generated, tuple):
            return cut
        if logprobs is not None:
            logprobs = [row[: len(kept)] for row, kept in zip(logprobs, cut, strict=True)]
        return cut, logprobs

    def _generate(self, prompts: list[Any]) -> Any:
        result = list(super()._generate(prompts))
        # RLOO's result is (prompt ids, ids, completions); GRPO's has a mask of what tools gave before the completions.
        place = 2 if len(result) == 3 else 3
        said = result[1] if place == 2 or result[2] is None else list(map(find_last_turn, result[1], result[2]))
        answers = self._read_answers(said)
        result[place] = [
            [*(turns if turns[-1]["role"] == "tool" else turns[:-1]), answer.turn]
            for turns, answer in zip(result[place], answers, strict=True)
        ]
        self._count_finished(answers)
        return tuple(result)

    def _read_answers(self, ids: Sequence[Sequence[int]]) -> list[Answer]:
        tokenizer = self.processing_class
        return [read_answer(tokenizer, row, is_finished=is_ended(tokenizer, row, self.eos_token_ids)) for row in ids]

    def _count_finished(self, answers: Sequence[Answer]) -> None:
        """Corrects the trainer's measures, in which an answer that ended by text is cut off."""
        device = self.accelerator.device
        measures = self._metrics["train" if self.model.training else "eval"]
        lengths = self.accelerator.gather(torch.tensor([answer.tokens for answer in answers], device=device)).float()
        finished = self.accelerator.gather(torch.tensor([answer.is_finished for answer in answers], device=device))
        ended = lengths[finished] if finished.any() else torch.zeros(1)
        corrected = {
            "clipped_ratio": 1 - finished.float().mean(),
            "mean_terminated_length": ended.mean(),
            "min_terminated_length": ended.min(),
            "max_terminated_length": ended.max(),
        }
        for name, value in corrected.items():
            measures[f"completions/{name}"][-1] = value.item()


def find_last_turn(ids: Sequence[int], is_said: Sequence[int]) -> Sequence[int]:
    """The tokens behind the last result of a tool; `is_said` is 0 for results.

    >>> find_last_turn([5, 6, 7, 8], [1, 0, 1, 1])
    [7, 8]
    """
    start = len(is_said)
    while start and is_said[start - 1]:
        start -= 1
    return ids[start:]


def is_ended(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: Collection[int]) -> bool:
    """Whether an answer's tokens end with an end token, or with a text that ends a turn."""
    return bool(ids) and (ids[-1] in ends or has_stop(tokenizer, ids, tuple(tokenizer.stop_strings)))
