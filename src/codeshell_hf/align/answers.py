"""What a model says to a prompt: drawn in batches, cut at its end, and the code taken out of it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import END_OF_TURN, CodeShellTokenizer
from .conversations import Message
from .rendering import pad_rows, render_prompt

FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """An answer as a person reads it.

    Args:
        text: Without its stop.
        is_finished: Whether the model stopped by itself.
        tokens: Its length, stop included.
    """

    text: str
    is_finished: bool
    tokens: int

    @property
    def code(self) -> str:
        """The first fenced block, or all of it where there is none."""
        return extract_code(self.text)

    @property
    def turn(self) -> Message:
        """As a trainer hands it to a reward: with its stop, if it has one."""
        return {"role": "assistant", "content": self.text + (END_OF_TURN if self.is_finished else "")}


def clean_answer(text: str) -> tuple[str, bool]:
    """Cuts an answer at its stop.

    Args:
        text: What a model wrote.

    Returns:
        What stands before the stop, without white space at its ends, and whether there was a stop.

    >>> clean_answer(" x = 1|<end>|## human:")
    ('x = 1', True)
    """
    before, stop, _ = text.partition(END_OF_TURN)
    return before.strip(), bool(stop)


def extract_code(text: str) -> str:
    r"""Takes the code out of an answer.

    Args:
        text: An answer.

    Returns:
        The first fenced block, or all of the text where there is none.

    >>> extract_code("Here it is:\n```python\nx = 1\n```\nDone.")
    'x = 1'
    """
    found = FENCE.search(text)
    return found.group(1) if found else text


@torch.no_grad()
def draw_answers(
    model: CodeShellForCausalLM,
    tokenizer: CodeShellTokenizer,
    prompts: Sequence[Sequence[Message]],
    *,
    per_prompt: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[list[Answer]]:
    """Lets a model answer each prompt several times, prompts of like length together.

    The same seed, model and arguments give the same answers, whatever was drawn before.

    Args:
        model: Any mode; it is left as it was.
        tokenizer: With a chat template.
        prompts: Turns, the last of them the user's.
        per_prompt: Answers to each.
        max_new_tokens: An answer that is longer is unfinished.
        temperature: 0 takes the likeliest token each time.
        batch_size: Answers at a time.
        seed: Decides what is drawn.
        on_progress: Called with the number of prompts just done.

    Returns:
        For each prompt its answers.
    """
    was_training = model.training
    model.eval()
    encoded = [render_prompt(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    answers: dict[int, list[Answer]] = {}
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    at_a_time = max(1, batch_size // per_prompt)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for first in range(0, len(order), at_a_time):
            chosen = order[first : first + at_a_time]
            rows = [encoded[index] for index in chosen]
            ids, mask = pad_rows(rows, tokenizer.pad_token_id, side="left")
            generated = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                num_return_sequences=per_prompt,
                stop_strings=list(tokenizer.stop_strings),
                tokenizer=tokenizer,
                pad_token_id=tokenizer.pad_token_id,
                use_cache=True,
                **sampling,
            )
            for row, index in enumerate(chosen):
                written = generated[row * per_prompt : (row + 1) * per_prompt, ids.shape[1] :]
                answers[index] = [_read_answer(tokenizer, tokens) for tokens in written]
            on_progress(len(chosen))
    model.train(was_training)
    return [answers[index] for index in range(len(prompts))]


def _read_answer(tokenizer: CodeShellTokenizer, tokens: torch.Tensor) -> Answer:
    text, is_stopped = clean_answer(tokenizer.decode(tokens, skip_special_tokens=True))
    has_ended = bool((tokens == tokenizer.eos_token_id).any())
    length = int((tokens != tokenizer.pad_token_id).sum())
    return Answer(text, is_stopped or has_ended, length)
