"""Chooses a row's next token: bias, penalties, temperature, top-k, top-p, min-p."""

# V vocabulary

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowSampling:
    """How a row is continued.

    Args:
        max_new_tokens: Longest output; `None` for what fits the context.
        temperature: 0 is greedy decoding.
        top_p: Probability mass of nucleus sampling.
        top_k: Number of likeliest tokens, 0 for all.
        min_p: Least probability, as a share of the likeliest token's.
        repetition_penalty: Divides logits of tokens in prompt and output, or multiplies negative ones.
        presence_penalty: Subtracted from logits of tokens in the output.
        frequency_penalty: Subtracted from them once for each time they occur.
        logit_bias: Added to logits, by token.
        seed: Decides what is drawn, together with the number of the choice; `None` draws differently each time.
        stops: Texts that end the output.
        alternatives: Likeliest tokens that are reported with each one; `None` for no log probabilities at all.
    """

    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stops: tuple[str, ...] = ()
    alternatives: int | None = None


@dataclass(frozen=True)
class ChosenToken:
    """A token with its log probability in the model's own distribution, and the likeliest ones."""

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


def choose_token(
    logits: Tensor, sampling: RowSampling, *, prompt: Sequence[int], written: Sequence[int], uniform: float
) -> ChosenToken:
    """Chooses the next token of one row.

    Args:
        logits: Shape (V,), float32.
        sampling: Of the row.
        prompt: Its prompt.
        written: Its output so far.
        uniform: A random number in [0, 1).
    """
    token = int(_choose(_adjust(logits, sampling, prompt, written), sampling, uniform))
    if sampling.alternatives is None:
        return ChosenToken(token)
    logprobs = logits.log_softmax(-1)
    values, ids = logprobs.topk(min(sampling.alternatives, len(logprobs)))
    return ChosenToken(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def _adjust(logits: Tensor, sampling: RowSampling, prompt: Sequence[int], written: Sequence[int]) -> Tensor:
    """Applies bias and penalties, as OpenAI's documentation and Keskar et al. 2019, arXiv:1909.05858, define them."""
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *written}), device=logits.device)
        values = logits[seen]
        factor = sampling.repetition_penalty
        logits = logits.index_put((seen,), torch.where(values > 0, values / factor, values * factor))
    if written and (sampling.presence_penalty or sampling.frequency_penalty):
        counts = torch.bincount(torch.tensor(written, device=logits.device), minlength=len(logits))
        logits = logits - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
    if sampling.logit_bias:
        ids = torch.tensor(list(sampling.logit_bias), device=logits.device)
        bias = torch.tensor(list(sampling.logit_bias.values()), device=logits.device, dtype=logits.dtype)
        logits = logits.index_add(0, ids, bias)
    return logits


def _choose(logits: Tensor, sampling: RowSampling, uniform: float) -> Tensor:
    if not sampling.temperature or sampling.top_k == 1:
        return logits.argmax(-1)
    many = min(sampling.top_k or len(logits), len(logits))
    # The maximum is taken off first, so that a tiny temperature does not overflow.
    scaled = (logits - logits.max()) / sampling.temperature
    probabilities, order = scaled.softmax(-1).sort(descending=True)
    probabilities = probabilities[:many] / probabilities[:many].sum()
    before = probabilities.cumsum(-1) - probabilities
    kept = (before < sampling.top_p) & (probabilities >= sampling.min_p * probabilities[0])
    kept[0] = True
    reached = torch.where(kept, probabilities, 0.0).cumsum(-1)
    place = torch.searchsorted(reached, uniform * reached[-1], right=True)
    # A number close to 1 must not select a token that was left out.
    return order[torch.minimum(place, kept.nonzero()[-1, 0])]
