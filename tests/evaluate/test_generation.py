"""Answers of a model in memory: by batch and alone, until their stops."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError
from codeshell_hf.evaluate.generation import Completion, ModelGenerator, Question, find_beginning
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.text.decode import choose_tokens
from codeshell_hf.text.infilling_dialects import find_dialect
from codeshell_hf.text.sampling import Sampling

GREEDY = Question("a", Prompt("def area(radius):\n"), Sampling(24, seed=0))


def resample(question: Question, **changes: Any) -> Question:
    return replace(question, sampling=replace(question.sampling, **changes))


def answer(generator: Any, *questions: Question) -> dict[str, list[Completion]]:
    answers: dict[str, list[Completion]] = {}
    generator.generate(questions, lambda question, completions: answers.update({question.id: completions}))
    return answers


@pytest.fixture
def model(tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer) -> CodeShellForCausalLM:
    return tiny_model(vocab_size=len(tiny_tokenizer), n_positions=160)


def make_questions(**changes: Any) -> list[Question]:
    prompts = ["x", "def area(radius):\n    return", "for (int i = 0; i < 10; i++) { sum", "class Stack:\n" * 3]
    asked = resample(GREEDY, **changes)
    return [replace(asked, id=str(index), prompt=Prompt(text)) for index, text in enumerate(prompts)]


def test_greedy_answers_are_those_of_transformers(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer
) -> None:
    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=4), *make_questions())

    for question in make_questions():
        ids = torch.tensor([tiny_tokenizer.encode_text(question.prompt.text)])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :]
        assert answers[question.id][0].text == tiny_tokenizer.decode(expected).partition("<|endoftext|>")[0]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_answers_do_not_depend_on_what_shares_a_batch(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer, temperature: float
) -> None:
    questions = make_questions(samples=3, temperature=temperature, top_p=0.9)

    together = answer(ModelGenerator(model, tiny_tokenizer, batch_size=12), *questions)
    alone = answer(ModelGenerator(model, tiny_tokenizer, batch_size=1), *questions)
    some = answer(ModelGenerator(model, tiny_tokenizer, batch_size=5), *reversed(questions))

    assert together == alone == some
    texts = {completion.text for completion in together["1"]}
    assert len(texts) == (1 if temperature == 0 else 3)
    other = answer(
        ModelGenerator(model, tiny_tokenizer, batch_size=12), *(resample(question, seed=1) for question in questions)
    )
    assert (other == together) == (temperature == 0)


def test_sampling_draws_each_token_as_often_as_its_share_of_the_nucleus(tiny_tokenizer: CodeShellTokenizer) -> None:
    """A right sampler fails this once in a million: five standard deviations on three counts."""
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20_000, 1)
    chances = torch.rand(20_000, generator=torch.Generator().manual_seed(0)).tolist()

    drawn = torch.bincount(choose_tokens(logits, chances, temperature=1.0, top_p=0.9), minlength=4) / 20_000

    expected = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    assert torch.allclose(drawn, expected, atol=5 * 0.0036)
    assert drawn[3] == 0
    assert choose_tokens(logits[:2], [0.0, 0.999999999], temperature=1.0, top_p=0.9).tolist() == [0, 2]


def test_each_row_ends_at_its_own_stop(model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer) -> None:
    free = answer(ModelGenerator(model, tiny_tokenizer, batch_size=8), *make_questions())
    stop = free["1"][0].text[3:6]
    questions = make_questions(stops=(stop,))

    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=8), *questions)

    assert answers["1"][0].end == "stop"
    assert stop in answers["1"][0].text
    assert answers["1"][0].tokens < 24
    for key, (completion,) in answers.items():
        assert free[key][0].text.startswith(completion.text)
        assert completion.end == ("stop" if stop in completion.text else free[key][0].end)


def test_prompts_without_room_are_counted_and_never_cut(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer
) -> None:
    long = replace(GREEDY, id="long", prompt=Prompt("def area(radius):\n" * 60))
    short = replace(resample(GREEDY, max_tokens=12, max_new_tokens=99), id="short")

    answers = answer(ModelGenerator(model, tiny_tokenizer, batch_size=2), long, short, replace(GREEDY, id="fits"))

    assert answers["long"] == [Completion("", 0, "prompt too long")]
    assert answers["short"][0].tokens == 12 - len(tiny_tokenizer.encode_text(GREEDY.prompt.text))
    assert answers["short"][0].end == "length"
    assert answers["fits"][0].tokens > 0


def test_special_tokens_in_a_prompt_stay_text(model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer) -> None:
    ids = ModelGenerator(model, tiny_tokenizer, batch_size=1).encode(Prompt("a <|endoftext|> <fim_middle> b"))

    assert tiny_tokenizer.eos_token_id not in ids
    assert tiny_tokenizer.convert_tokens_to_ids("<fim_middle>") not in ids


def test_special_tokens_in_a_question_stay_text(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer
) -> None:
    generator = ModelGenerator(model, tiny_tokenizer, batch_size=1)

    ids = generator.encode(Prompt("a <|endoftext|> <fim_middle> b", is_chat=True))

    assert not set(ids) & set(tiny_tokenizer.all_special_ids)
    assert "a <|endoftext|> <fim_middle> b" in tiny_tokenizer.decode(ids)


def test_text_to_fill_in_is_cut_where_that_is_asked(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer
) -> None:
    generator = ModelGenerator(model, tiny_tokenizer, batch_size=1)

    assert len(generator.encode(Prompt("a = 1\n" * 90, "b = 2\n" * 90, max_tokens=40))) == 40
    assert len(generator.encode(Prompt("a = 1\n" * 90, "b = 2\n" * 90))) > 160


class Bare:
    """A tokenizer that lacks what is asked of it."""

    eos_token_id = 0
    chat_template = None

    def get_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, text: str, **_: bool) -> dict[str, list[int]]:
        return {"input_ids": [0]}


@pytest.mark.parametrize(
    ("prompt", "message"), [(Prompt("a", "b"), "no <fim_prefix>"), (Prompt("a", is_chat=True), "no chat template")]
)
def test_what_a_vocabulary_lacks_is_one_error(model: CodeShellForCausalLM, prompt: Prompt, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelGenerator(model, Bare(), batch_size=1).encode(prompt)


def test_any_model_of_transformers_can_be_asked(tiny_tokenizer: CodeShellTokenizer) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer), max_position_embeddings=64, **sizes)).eval()
    questions = make_questions(samples=2, max_new_tokens=8)

    together = answer(ModelGenerator(llama, tiny_tokenizer, batch_size=8), *questions)

    assert together == answer(ModelGenerator(llama, tiny_tokenizer, batch_size=1), *questions)
    assert {len(found) for found in together.values()} == {2}


def test_a_chat_ends_with_its_turn(learnt_by_heart: Path) -> None:
    from codeshell_hf.loading import load_model

    model = load_model(str(learnt_by_heart), dtype=torch.float32).eval()
    tokenizer = CodeShellTokenizer.from_pretrained(learnt_by_heart)
    chat = replace(GREEDY, prompt=Prompt("add", is_chat=True))
    filled = replace(resample(GREEDY, stops=("\n",)), id="b", prompt=Prompt("def area(r):\n    return ", "\n"))

    answers = answer(ModelGenerator(model, tokenizer, batch_size=1), chat, filled)

    assert answers["a"][0].text == "return a + b"
    assert answers["a"][0].end == "stop"
    assert answers["b"][0].text.startswith("3.14 * r")


@pytest.mark.parametrize("max_tokens", [16, 40, 400])
def test_prompts_keep_what_is_nearest(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer, max_tokens: int
) -> None:
    before, after = "a = 1\n" * 50, "\nc = 3" * 50
    generator = ModelGenerator(tiny_model(vocab_size=len(tiny_tokenizer)), tiny_tokenizer, batch_size=1)

    prompt = generator.encode(Prompt(before, after, max_tokens=max_tokens))

    whole = generator.encode(Prompt(before, after))
    assert len(prompt) <= max_tokens
    text = tiny_tokenizer.decode(prompt)
    prefix, suffix = text.removeprefix("<fim_prefix>").removesuffix("<fim_middle>").split("<fim_suffix>")
    assert before.endswith(prefix)
    assert after.startswith(suffix)
    if len(whole) <= max_tokens:
        assert prompt == whole


def test_a_token_without_an_embedding_is_one_error(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    ids = ModelGenerator(tiny_model(), tiny_tokenizer, batch_size=1).encode(GREEDY.prompt)
    small = tiny_model(vocab_size=max(ids))

    with pytest.raises(CheckpointError, match=f"has token id {max(ids)}, but the model has {max(ids)} embeddings"):
        answer(ModelGenerator(small, tiny_tokenizer, batch_size=1), GREEDY)


class WithBeginning:
    """A tokenizer of words with tokens of its own at both ends of a text, and sentinels."""

    chat_template = None
    eos_token_id = 2
    words: tuple[str, ...] = ("<s>", "x", "</s>", "\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", *"abcdefgh")

    def get_vocab(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def __call__(self, text: str, *, add_special_tokens: bool = True, **_: bool) -> dict[str, list[int]]:
        ids = [self.get_vocab()[word] for word in text.split()]
        return {"input_ids": [0, *ids, 2] if add_special_tokens else ids}

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.words[number] for number in ids)


def test_a_model_gets_the_beginning_that_its_tokenizer_writes() -> None:
    generator = ModelGenerator.__new__(ModelGenerator)
    tokenizer: Any = WithBeginning()
    generator.tokenizer, generator.beginning = tokenizer, find_beginning(tokenizer)
    generator.vocabulary, generator.dialect = tokenizer.get_vocab(), find_dialect(tokenizer.get_vocab())

    assert generator.encode(Prompt("a b")) == [0, 6, 7]  # <s>, and no </s>
    assert generator.encode(Prompt("a b", "c")) == [0, 3, 6, 7, 4, 8, 5]
    assert generator.encode(Prompt("a b c d", "e f g h", max_tokens=8)) == [0, 3, 8, 9, 4, 10, 11, 5]
    assert generator.encode(Prompt("a b c d", "e", max_tokens=8)) == [0, 3, 7, 8, 9, 4, 10, 5]
    assert generator.encode(Prompt("a", "e f g h", max_tokens=8)) == [0, 3, 6, 4, 10, 11, 12, 5]


def test_the_release_has_no_beginning(tiny_tokenizer: CodeShellTokenizer) -> None:
    assert find_beginning(tiny_tokenizer) == []


def test_the_context_of_a_prompt_gives_way_by_whole_lines(
    model: CodeShellForCausalLM, tiny_tokenizer: CodeShellTokenizer
) -> None:
    generator = ModelGenerator(model, tiny_tokenizer, batch_size=1)
    context = "".join(f"line_{number} = {number}\n" for number in range(40))
    text = "# the file\nx = "
    room = generator.decoder.context - 20

    whole = generator.encode(Prompt(text, context="a = 1\n"), new_tokens=20)
    cut = generator.encode(Prompt(text, context=context), new_tokens=20)
    limited = generator.encode(Prompt(text, context=context, max_tokens=60), new_tokens=20)
    by_tokens = generator.encode(Prompt(text, context=context, max_tokens=60, max_context_tokens=11), new_tokens=20)
    long = generator.encode(Prompt(context, context="a = 1\n"), new_tokens=20)

    assert tiny_tokenizer.decode(whole) == f"a = 1\n{text}"
    kept = tiny_tokenizer.decode(cut)
    assert kept.endswith(f"\n\n{text}")
    assert context.startswith(kept.removesuffix(f"\n\n{text}") + "\n")
    assert room - 20 < len(cut) <= room
    assert len(limited) <= 60
    ids = tiny_tokenizer.encode_text(context)
    assert by_tokens == [*ids[:11], *tiny_tokenizer.encode_text(text)]
    assert long == ids[-room:]  # the end of a text that has no room
