"""How tokens are sampled, by a model in memory or behind a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled: temperature 0 is greedy decoding; without a seed each call differs."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
