"""Decoding, against naive loops: which token is taken, and what each row of a batch gets."""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.text.chat import encode_prompt
from codeshell_hf.text.decode import Decoder, Output, Request, choose_tokens, sample_answers
from codeshell_hf.text.sampling import Sampling
from codeshell_hf.text.stream import StopFilter

END, VOCABULARY = 0, 12


def choose_naively(logits: list[float], uniform: float, temperature: float, top_p: float) -> int:
    """Takes tokens from the likeliest on until top_p is reached, and draws among them."""
    weights = torch.tensor(logits, dtype=torch.float64).div(temperature).softmax(-1).tolist()
    nucleus, total = [], 0.0
    for token in sorted(range(len(weights)), key=lambda token: -weights[token]):
        nucleus.append(token)
        total += weights[token]
        if total >= top_p:
            break
    place = uniform * total
    for token in nucleus:
        place -= weights[token]
        if place < 0:
            return token
    return nucleus[-1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 1.0])
def test_the_token_is_that_of_a_loop_over_the_nucleus(temperature: float, top_p: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(200, VOCABULARY) * 2
    uniforms = torch.rand(200).tolist()

    chosen = choose_tokens(logits, uniforms, temperature=temperature, top_p=top_p).tolist()

    naive = [choose_naively(row, u, temperature, top_p) for row, u in zip(logits.tolist(), uniforms, strict=True)]
    # The borders between tokens are rounded: of 200, one may fall on the other side.
    assert sum(one != other for one, other in zip(chosen, naive, strict=True)) <= 1


def test_without_temperature_the_likeliest_token_is_taken() -> None:
    assert choose_tokens(torch.tensor([[0.0, 3.0, 1.0]]), [0.99], temperature=0, top_p=0.1).tolist() == [1]


class Countdown(nn.Module):
    """After token n comes n - 1, which no cache is needed for; where two are likely, sampling takes either."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(n_positions=64, num_hidden_layers=1, layer_types=["full_attention"])
        self.generation_config = None
        self.device = torch.device("cpu")

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logits = nn.functional.one_hot((input_ids - 1).clamp(min=0), VOCABULARY).float() * 50
        return SimpleNamespace(logits=logits)


class Letters:
    """One letter a token."""

    eos_token_id = END

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join("abcdefghijkl"[token] for token in ids)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cache:
        def __init__(self, **_: Any) -> None:
            pass

        def batch_repeat_interleave(self, many: int) -> None:
            pass

        def batch_select_indices(self, kept: Tensor) -> None:
            pass

    monkeypatch.setattr("codeshell_hf.text.decode.DynamicCache", Cache)


def decode(requests: Sequence[Request], batch_size: int = 8) -> dict[str, list[Output]]:
    outputs: dict[str, list[Output]] = {}
    decoder = Decoder(Countdown(), Letters(), batch_size=batch_size)
    decoder.decode(requests, lambda request, done: outputs.update({request.id: done}))
    return outputs


@pytest.mark.usefixtures("no_cache")
def test_each_row_counts_down_from_its_own_prompt_whatever_ends_beside_it() -> None:
    requests = [Request(str(start), [start], Sampling(16)) for start in (3, 11, 1, 7, 2)]

    outputs = decode(requests)

    for start in (3, 11, 1, 7, 2):
        [output] = outputs[str(start)]
        assert list(output.ids) == list(range(start - 1, 0, -1))  # by hand; the end is not part of it
        assert output.end == "stop"


@pytest.mark.usefixtures("no_cache")
def test_rows_stop_at_their_own_stop_and_limit() -> None:
    outputs = decode([Request("stop", [9], Sampling(16, stops=("gf",))), Request("limit", [9], Sampling(3))])

    assert (outputs["stop"][0].text, outputs["stop"][0].end) == ("ihgf", "stop")
    assert (outputs["limit"][0].text, outputs["limit"][0].end) == ("ihg", "length")


@pytest.mark.usefixtures("no_cache")
def test_samples_of_a_prompt_differ_and_are_those_of_the_prompt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Countdown, "forward", lambda self, input_ids, **_: SimpleNamespace(
        logits=torch.zeros(*input_ids.shape, VOCABULARY)
    ))  # fmt: skip
    requests = [Request(name, [5], Sampling(8, 1.0, seed=4, samples=3)) for name in ("a", "b")]

    together = decode(requests)
    alone = decode(requests[:1], batch_size=3)

    texts = [output.text for outputs in together.values() for output in outputs]
    assert len(set(texts)) == 6  # of 12 ** 8 each: equal by accident less than once in a million runs
    assert alone["a"] == together["a"]


def test_text_comes_up_to_a_stop_and_what_might_become_one_waits() -> None:
    shown: list[str] = []
    held = StopFilter(["|<end>|", "##"], shown.append)

    for piece in ("x", " #", "!", " |<e", "nd", ">", "|", "later"):
        held.feed(piece)
    held.end()

    assert shown == ["x", " ", "#!", " "]
    assert held.is_stopped
    assert held.text == "x #! "


MakeModel = Callable[..., CodeShellForCausalLM]


def test_answers_do_not_depend_on_their_batch_and_stop_at_the_stop(
    tiny_model: MakeModel, tiny_tokenizer: CodeShellTokenizer
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    prompts = [[{"role": "user", "content": text}] for text in ("hi", "a longer question than that", "x")]
    sample = partial(sample_answers, model, tiny_tokenizer, prompts, max_new_tokens=6, seed=3)

    greedy = [sample(per_prompt=1, temperature=0.0, batch_size=size) for size in (1, 8)]
    drawn = [sample(per_prompt=2, temperature=1.0, batch_size=8) for _ in range(2)]

    assert greedy[0] == greedy[1]
    assert drawn[0] == drawn[1]
    assert [len(some) for some in drawn[0]] == [2, 2, 2]
    assert not any(answer.is_finished for some in greedy[0] for answer in some if answer.tokens == 6)


def test_a_models_stop_ends_its_answer(tiny_model: MakeModel, tiny_tokenizer: CodeShellTokenizer) -> None:
    """A head that always says the same line: the answer ends where the line has the stop."""
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    said = tiny_tokenizer.encode_text(" x|<end>| never seen")

    prompt = [{"role": "user", "content": "hi"}]
    start = len(encode_prompt(tiny_tokenizer, prompt))
    original = model.forward

    def say_the_line(*, position_ids: torch.Tensor, **inputs: object) -> object:
        output = original(position_ids=position_ids, **inputs)
        token = said[(int(position_ids[0, -1]) + 1 - start) % len(said)]
        output.logits[:, -1] = 100.0 * torch.nn.functional.one_hot(torch.tensor(token), output.logits.shape[-1])
        return output

    model.forward = say_the_line

    answer = sample_answers(
        model, tiny_tokenizer, [prompt], per_prompt=1, max_new_tokens=30, temperature=0.0, batch_size=1, seed=0
    )[0][0]

    assert (answer.text, answer.is_finished) == ("x", True)
    assert answer.tokens < 12
    assert answer.turn == {"role": "assistant", "content": "x|<end>|"}
