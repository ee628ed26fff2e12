"""Settings of sampling: from a model in memory, with `decode`, or from a server, with `client`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How a prompt is continued.

    Args:
        max_new_tokens: Longest output.
        temperature: 0 is greedy decoding.
        top_p: Probability mass of nucleus sampling.
        seed: Decides what is drawn; without one, `stream` samples differently each time, and servers as they choose.
        samples: Outputs of the prompt.
        stops: Texts that end an output.
        max_tokens: Of prompt and output together, `None` for the model's context. Servers know their own.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    samples: int = 1
    stops: tuple[str, ...] = ()
    max_tokens: int | None = None
