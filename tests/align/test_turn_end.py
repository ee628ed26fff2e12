"""Answers inside a trainer end with the turn, and rewards get them as a measurement would."""

from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align.turn_end import EndsTurns, TurnEnd, cut_at_stop, stopping_at
from codeshell_hf.text.decode import sample_answers
from recipes.with_accelerate import join_ranks

STOPS = ("|<end>|",)


def test_ranks_of_a_sharded_policy_generate_until_the_last_answer_ends(tiny_tokenizer: CodeShellTokenizer) -> None:
    """Transformers does not know that accelerate sharded the model, and each forward pass needs all ranks."""
    given: list[dict[str, object]] = []

    class Policy(nn.Module):
        def generate(self, *, input_ids: Tensor, **options: object) -> Tensor:
            given.append(options)
            return input_ids

    with join_ranks():
        for policy in (Policy(), fully_shard(Policy())):
            with stopping_at(policy, tiny_tokenizer, STOPS):
                policy.generate(input_ids=torch.zeros(1, 1, dtype=torch.long))

    assert [options.get("synced_gpus") for options in given] == [None, True]


PROMPT = [{"role": "user", "content": "q"}]

# What a policy writes (its end of text is "$"), and by hand: what a reward gets, and how many tokens are learned from
WRITTEN = {
    " x = 1|<end>|": ("x = 1|<end>|", "all"),
    " x = 1$": ("x = 1|<end>|", "all"),  # another end than the text
    "$": ("|<end>|", "all"),  # an answer that is only an end
    "|<end>|": ("|<end>|", "all"),
    " x = 1": ("x = 1", "all"),  # cut off
    " x = 1|<end>|## human: more|<end>|": ("x = 1|<end>|", " x = 1|<end>|"),
    " x = 1|<end>|$": ("x = 1|<end>|", " x = 1|<end>|"),
    " x|<end": ("x|<end", "all"),
}


def encode(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    pieces = text.split("$")
    end = [tokenizer.eos_token_id] * (len(pieces) - 1)
    return [*tokenizer.encode_text(pieces[0]), *end]


class Generator:
    """As much of TRL's RLOO trainer as generation needs; it writes what it was given."""

    def __init__(self, tokenizer: CodeShellTokenizer, rows: Sequence[list[int]]) -> None:
        self.processing_class = tokenizer
        self.eos_token_ids = [tokenizer.eos_token_id]
        self.rows = rows
        self.model = SimpleNamespace(training=True, generate=lambda **_: None)
        self.accelerator = SimpleNamespace(
            unwrap_model=lambda model: model, gather=lambda values: values, device=torch.device("cpu")
        )
        self._metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(lambda: [1.0])}

    def _generate_single_turn(self, prompts: list[Any]) -> list[list[int]]:
        return [list(row) for row in self.rows]

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        ids = self._generate_single_turn(prompts)
        return prompts, ids, [[{"role": "assistant", "content": "of TRL"}] for _ in ids]


class EndedGenerator(EndsTurns, Generator):
    pass


@pytest.fixture
def generator(tiny_tokenizer: CodeShellTokenizer) -> EndedGenerator:
    return EndedGenerator(tiny_tokenizer, [encode(tiny_tokenizer, text) for text in WRITTEN])


def test_rewards_get_an_answer_up_to_its_end_and_nothing_behind_it_is_learned(
    generator: EndedGenerator, tiny_tokenizer: CodeShellTokenizer
) -> None:
    _, ids, completions = generator._generate([PROMPT] * len(WRITTEN))

    for row, [turn], (text, (expected, learned)) in zip(ids, completions, WRITTEN.items(), strict=True):
        assert turn == {"role": "assistant", "content": expected}
        assert row == encode(tiny_tokenizer, text if learned == "all" else learned)


def test_only_answers_without_an_end_count_as_cut_off(generator: EndedGenerator) -> None:
    _, ids, _ = generator._generate([PROMPT] * len(WRITTEN))

    measures = {name: values[-1] for name, values in generator._metrics["train"].items()}
    ended = [len(row) for row, text in zip(ids, WRITTEN, strict=True) if text not in (" x = 1", " x|<end")]
    assert measures["completions/clipped_ratio"] == 2 / 8
    assert measures["completions/mean_terminated_length"] == pytest.approx(sum(ended) / len(ended))
    assert measures["completions/max_terminated_length"] == max(ended)


class Script(nn.Module):
    """A model that writes given tokens, whatever the prompt."""

    def __init__(self, ids: Sequence[int], prompt_tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.ids, self.prompt_tokens, self.vocabulary = ids, prompt_tokens, vocabulary
        self.config = SimpleNamespace(n_positions=256, num_hidden_layers=1, layer_types=["full_attention"])
        self.generation_config = None
        self.device = torch.device("cpu")

    def forward(self, input_ids: Tensor, position_ids: Tensor, **_: Any) -> SimpleNamespace:
        places = (position_ids - self.prompt_tokens + 1).clamp(min=0).tolist()
        wanted = [[self.ids[place] if place < len(self.ids) else 5 for place in row] for row in places]
        return SimpleNamespace(logits=nn.functional.one_hot(torch.tensor(wanted), self.vocabulary).float() * 50)


@pytest.mark.parametrize("text", WRITTEN)
def test_a_measurement_reads_the_same_answer_from_the_same_tokens(
    generator: EndedGenerator, tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    ids = encode(tiny_tokenizer, text)
    prompt = tiny_tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True)["input_ids"]
    cache = SimpleNamespace(batch_repeat_interleave=lambda many: None, batch_select_indices=lambda kept: None)
    monkeypatch.setattr("codeshell_hf.text.decode.DynamicCache", lambda **_: cache)

    [[measured]] = sample_answers(
        Script(ids, len(prompt), len(tiny_tokenizer)),
        tiny_tokenizer,
        [PROMPT],
        per_prompt=1,
        max_new_tokens=len(ids),
        temperature=0.0,
        batch_size=1,
        seed=0,
    )

    _, trained, completions = generator._generate([PROMPT] * len(WRITTEN))
    place = list(WRITTEN).index(text)
    assert [measured.turn] == completions[place]
    assert list(measured.ids) == trained[place]


def test_a_stop_in_the_prompt_does_not_end_an_answer(tiny_tokenizer: CodeShellTokenizer) -> None:
    prompt = tiny_tokenizer.encode_text("q|<end>|")
    rows = [tiny_tokenizer.encode_text(text) for text in ("x |<end>", "x|<end>|")]
    longest = max(map(len, rows))
    padded = torch.tensor([[*prompt, *[5] * (longest - len(row)), *row] for row in rows])

    ended = TurnEnd(tiny_tokenizer, STOPS, len(prompt))(padded, None)

    assert ended.tolist() == [False, True]
    begun = torch.tensor([[*prompt, *tiny_tokenizer.encode_text("x")]])  # the stop is among the last tokens
    assert TurnEnd(tiny_tokenizer, STOPS, len(prompt))(begun, None).tolist() == [False]


def test_generate_stops_at_a_text_within_the_block_only(tiny_tokenizer: CodeShellTokenizer) -> None:
    asked: list[dict[str, Any]] = []

    class Model(nn.Module):
        def generate(self, **options: Any) -> Tensor:
            asked.append(options)
            return torch.zeros(1, 1)

    model = Model()
    with stopping_at(model, tiny_tokenizer, STOPS):
        model.generate(input_ids=torch.zeros(1, 4), generation_config="given")
    model.generate(input_ids=torch.zeros(1, 4))

    assert asked[0]["generation_config"] == "given"
    assert asked[0]["stopping_criteria"][0].prompt_tokens == 4
    assert "stopping_criteria" not in asked[1]


def test_log_probabilities_are_cut_with_their_tokens(tiny_tokenizer: CodeShellTokenizer) -> None:
    """As with GRPO on vLLM."""
    ids = encode(tiny_tokenizer, " x|<end>|later")

    class Two(Generator):
        def _generate_single_turn(self, prompts: list[Any]) -> Any:
            return [ids], [[float(number) for number in range(len(ids))]]

    class EndedTwo(EndsTurns, Two):
        pass

    cut, logprobs = EndedTwo(tiny_tokenizer, [])._generate_single_turn([PROMPT])

    assert cut == [encode(tiny_tokenizer, " x|<end>|")]
    assert logprobs == [[float(number) for number in range(len(cut[0]))]]


def test_a_stop_is_found_at_the_first_token_that_completes_it(tiny_tokenizer: CodeShellTokenizer) -> None:
    ids = tiny_tokenizer.encode_text("面 x|<end>|y|<end>|")

    kept, is_found = cut_at_stop(tiny_tokenizer, ids, STOPS)

    assert is_found
    assert tiny_tokenizer.decode(kept) == "面 x|<end>|"
    assert cut_at_stop(tiny_tokenizer, kept[:-1], STOPS) == (kept[:-1], False)
