"""Continuous batching, against transformers' `generate` on each prompt alone."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.serve.batching import Batching, Job, TooBusy
from codeshell_hf.serve.row_text import TextPiece
from codeshell_hf.serve.sampling import RowSampling

GREEDY = RowSampling(max_new_tokens=12, temperature=0.0)


class Listener:
    """Gathers pieces of jobs, and waits for their ends."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, int], list[TextPiece]] = defaultdict(list)
        self.changed = threading.Condition()

    def make_job(self, name: int, ids: list[int], sampling: RowSampling = GREEDY, choices: int = 1) -> Job:
        def take(number: int, piece: TextPiece) -> None:
            with self.changed:
                self.pieces[name, number].append(piece)
                self.changed.notify()

        return Job(ids, sampling, choices, take)

    def wait(self, outputs: int) -> dict[tuple[int, int], str]:
        def ended() -> bool:
            return sum(bool(pieces[-1].end or pieces[-1].error) for pieces in self.pieces.values()) == outputs

        with self.changed:
            assert self.changed.wait_for(ended, timeout=60)
        return {key: "".join(piece.text for piece in pieces) for key, pieces in self.pieces.items()}


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def start(tiny_tokenizer: CodeShellTokenizer) -> Any:
    started: list[Batching] = []

    def make(model: CodeShellForCausalLM, **limits: int) -> Batching:
        limits = {"max_rows": 8, "max_batch_tokens": 4096, "max_waiting": 64} | limits
        batching = Batching(model, tiny_tokenizer, **limits)
        batching.start()
        started.append(batching)
        return batching

    yield make
    for batching in started:
        batching.close()


def is_idle(batching: Batching) -> bool:
    """Whether all places are free, at the latest a moment after the last piece."""
    deadline = time.monotonic() + 10
    while batching.places != (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    return batching.places == (0, 0)


def make_prompts(number: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (2 + 3 * (row % 7),), generator=generator).tolist() for row in range(number)]


def continue_alone(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, ids: list[int], new: int) -> str:
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, do_sample=False, eos_token_id=None
    )
    return str(tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 5}, {"activation_function": "swiglu"}])
def test_rows_that_join_and_leave_write_what_each_does_alone(
    changes: dict[str, object],
    tiny_model: Callable[..., CodeShellForCausalLM],
    tiny_tokenizer: CodeShellTokenizer,
    listener: Listener,
    start: Callable[..., Batching],
) -> None:
    """More prompts than rows, of different lengths, that end at different times."""
    model = tiny_model(eos_token_id=None, **changes)
    model.generation_config.eos_token_id = None
    tiny_tokenizer.eos_token = None
    prompts = make_prompts(12)
    news = [1 + row % 13 for row in range(12)]
    batching = start(model, max_rows=5)

    for name, ids in enumerate(prompts):
        batching.submit(listener.make_job(name, ids, RowSampling(max_new_tokens=news[name], temperature=0.0)))
    texts = listener.wait(12)

    for name, ids in enumerate(prompts):
        assert texts[name, 0] == continue_alone(model, tiny_tokenizer, ids, news[name]), name
        assert listener.pieces[name, 0][-1].written == news[name]
    assert is_idle(batching)


def test_a_seed_gives_the_same_text_in_any_company(
    tiny_model: Callable[..., CodeShellForCausalLM], listener: Listener, start: Callable[..., Batching]
) -> None:
    batching = start(tiny_model())
    drawn = RowSampling(max_new_tokens=10, temperature=1.0, seed=5)
    prompts = make_prompts(6)

    batching.submit(listener.make_job(0, prompts[0], drawn, 3))
    alone = listener.wait(3)
    for name, ids in enumerate(prompts[1:], 1):
        batching.submit(listener.make_job(name, ids, RowSampling(max_new_tokens=20, temperature=1.0)))
    batching.submit(listener.make_job(9, prompts[0], drawn, 3))
    together = listener.wait(11)

    assert [together[9, number] for number in range(3)] == [alone[0, number] for number in range(3)]
    assert len({alone[0, number] for number in range(3)}) == 3, "choices differ"


def test_rows_are_admitted_by_number_and_by_tokens(
    tiny_model: Callable[..., CodeShellForCausalLM], listener: Listener, start: Callable[..., Batching]
) -> None:
    """Rows times the longest of them stay within the limit; one row always runs."""
    model = tiny_model(eos_token_id=None)
    widths: list[tuple[int, int]] = []
    forward = model.forward

    def watch(**given: Any) -> Any:
        widths.append(tuple(given["attention_mask"].shape))
        return forward(**given)

    model.forward = watch
    batching = start(model, max_rows=4, max_batch_tokens=60)
    batching.submit(listener.make_job(0, [5] * 40, RowSampling(max_new_tokens=24, temperature=0.0)))
    for name in range(1, 9):
        batching.submit(listener.make_job(name, [6, 7], RowSampling(max_new_tokens=14, temperature=0.0)))
    listener.wait(9)

    assert max(rows for rows, _ in widths) <= 60 // 16
    assert max(rows for rows, width in widths if width > 16) == 1


def test_waiting_rows_are_limited_and_those_of_a_client_that_left_are_freed(
    tiny_model: Callable[..., CodeShellForCausalLM], listener: Listener, start: Callable[..., Batching]
) -> None:
    model = tiny_model(eos_token_id=None)
    go, forward = threading.Event(), model.forward

    def wait(**given: Any) -> Any:
        assert go.wait(5)
        return forward(**given)

    model.forward = wait
    batching = start(model, max_rows=2, max_waiting=3)
    jobs = [listener.make_job(name, [5, 6]) for name in range(5)]
    for job in jobs:
        batching.submit(job)
    with pytest.raises(TooBusy, match="outputs wait, and 3 may"):
        batching.submit(listener.make_job(9, [5], choices=3))

    for job in jobs[1:]:
        batching.cancel(job)
    go.set()
    listener.wait(1)
    batching.submit(listener.make_job(6, [5, 6], choices=3))
    listener.wait(4)

    assert {name for name, _ in listener.pieces if listener.pieces[name, 0][-1].end} == {0, 6}
    assert is_idle(batching)


def test_a_failing_step_fails_its_rows_and_no_later_ones(
    tiny_model: Callable[..., CodeShellForCausalLM], listener: Listener, start: Callable[..., Batching]
) -> None:
    model = tiny_model(eos_token_id=None)
    forward, calls = model.forward, 0

    def fail_once(**given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (3, 7):  # a step, and later a prompt
            raise RuntimeError("out of memory")
        return forward(**given)

    model.forward = fail_once
    batching = start(model, max_rows=1)
    for name in range(4):
        batching.submit(listener.make_job(name, [5, 6], RowSampling(max_new_tokens=3, temperature=0.0)))
    listener.wait(4)

    errors = [listener.pieces[name, 0][-1].error for name in range(4)]
    assert errors == ["the model failed; the server's log says why", None, errors[0], None]
    assert batching.is_alive


def test_closing_fails_what_is_left(
    tiny_model: Callable[..., CodeShellForCausalLM], listener: Listener, tiny_tokenizer: CodeShellTokenizer
) -> None:
    batching = Batching(tiny_model(), tiny_tokenizer, max_rows=1, max_batch_tokens=100, max_waiting=9)
    batching.submit(listener.make_job(0, [5], choices=2))
    batching.close()
    batching.start()
    listener.wait(2)

    assert listener.pieces[0, 1][-1].error == "the server is shutting down"
    with pytest.raises(TooBusy):
        batching.submit(listener.make_job(1, [5]))
