"""Decoding with a cache against rows written out without one, on weights whose next token depends on far context."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    StaticCache,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

from codeshell_hf import (
    CodeShellConfig,
    CodeShellForCausalLM,
    CodeShellForQuestionAnswering,
    CodeShellForSequenceClassification,
    CodeShellForTokenClassification,
    CodeShellTokenizer,
    modeling_codeshell,
)
from codeshell_hf.evaluate.generation import Completion, ModelGenerator, Question
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.publish.folder import save_folder
from codeshell_hf.text.sampling import Sampling
from codeshell_hf.text.stream import stream

NAMES = ["cache", "past_key_values"]  # since transformers 5.24 and before
CHANGES = [{}, {"sliding_window": 6}]
GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
STEPS = 12


@pytest.fixture
def far_sighted(tiny_model: Callable[..., CodeShellForCausalLM]) -> Callable[..., CodeShellForCausalLM]:
    """Makes models in which what attention brings outweighs the token itself."""

    def make(attention: str = "sdpa", **changes: object) -> CodeShellForCausalLM:
        model = tiny_model(attention, **changes)
        with torch.no_grad():
            for block in model.transformer.h:
                block.attn.c_attn.weight.mul_(5)
                block.attn.c_proj.weight.mul_(6)
        return model

    return make


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(1, 320, (2, 16), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def write_by_hand(model: Any, row: list[int], steps: int = STEPS) -> list[int]:
    """The likeliest tokens, each from a whole forward of all before it."""
    written = list(row)
    for _ in range(steps):
        written.append(int(model(torch.tensor([written]), use_cache=False).logits[0, -1].argmax()))
    return written[len(row) :]


@torch.no_grad()
def write_without_past(model: Any, row: list[int], steps: int = STEPS) -> list[int]:
    """What comes out if the cache is lost: after the first token, each is guessed from the one before it alone."""
    written = [*row, *write_by_hand(model, row, 1)]
    for place in range(len(written) - 1, len(row) + steps - 1):
        logits = model(torch.tensor([written[-1:]]), position_ids=torch.tensor([[place]]), use_cache=False).logits
        written.append(int(logits[0, -1].argmax()))
    return written[len(row) :]


def count_others(tokens: list[int], others: list[int]) -> int:
    return sum(a != b for a, b in zip(tokens, others, strict=True))


@pytest.mark.parametrize("changes", CHANGES, ids=["full", "sliding"])
def test_these_weights_look_back_and_far(far_sighted: Any, ids: Tensor, changes: dict) -> None:
    """Without this, every other test here could pass without a cache."""
    model = far_sighted(**changes)
    for row in ids.tolist():
        right = write_by_hand(model, row)
        other = [(row[0] + 1) % 320, *row[1:]]

        # The first token comes of a whole forward either way.
        assert count_others(right, write_without_past(model, row)) == STEPS - 1
        assert count_others(right, write_by_hand(model, other)) >= STEPS - 3
        assert len(set(right)) > STEPS / 2


@pytest.mark.parametrize("changes", CHANGES, ids=["full", "sliding"])
@pytest.mark.parametrize("sizes", [(9, 1, 1, 1, 1, 1, 1, 1), (5, 1, 7, 3), (1, 15)], ids=["steps", "chunks", "late"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_row_in_pieces_is_the_whole_row(
    far_sighted: Any, ids: Tensor, attention: str, name: str, sizes: tuple[int, ...], changes: dict
) -> None:
    model = far_sighted(attention, **changes)
    cache = DynamicCache(config=model.config)

    with torch.no_grad():
        whole, hidden = model(ids, use_cache=False).logits, model.transformer(ids, use_cache=False).last_hidden_state
        pieces = [model(piece, use_cache=True, **{name: cache}) for piece in ids.split(sizes, dim=1)]
        cache = DynamicCache(config=model.config)
        states = [model.transformer(piece, **{name: cache}).last_hidden_state for piece in ids.split(sizes, dim=1)]

    torch.testing.assert_close(torch.cat([piece.logits for piece in pieces], dim=1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(states, dim=1), hidden, atol=1e-4, rtol=1e-4)
    assert all(piece["past_key_values"] is pieces[0]["past_key_values"] for piece in pieces)
    assert cache.get_seq_length() == 16


def test_the_cache_may_stand_in_fourth_place(far_sighted: Any, ids: Tensor) -> None:
    model = far_sighted()
    cache = DynamicCache(config=model.config)

    with torch.no_grad():
        model(ids[:, :10], None, None, cache)
        logits = model(ids[:, 10:], None, None, cache).logits

    torch.testing.assert_close(logits, model(ids, use_cache=False).logits[:, 10:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", CHANGES, ids=["full", "sliding"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_generate_writes_what_a_hand_does(far_sighted: Any, ids: Tensor, attention: str, changes: dict) -> None:
    model = far_sighted(attention, **changes)

    generated = model.generate(ids, max_new_tokens=STEPS, **GREEDY)

    assert generated[:, 16:].tolist() == [write_by_hand(model, row) for row in ids.tolist()]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_generate_behind_padding_writes_what_a_hand_does(far_sighted: Any, ids: Tensor, attention: str) -> None:
    model = far_sighted(attention)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0

    generated = model.generate(ids.masked_fill(mask == 0, 0), attention_mask=mask, max_new_tokens=STEPS, **GREEDY)

    assert generated[0, 16:].tolist() == write_by_hand(model, ids[0, 7:].tolist())
    assert generated[1, 16:].tolist() == write_by_hand(model, ids[1].tolist())


def test_generate_from_embeddings_writes_what_a_hand_does(far_sighted: Any, ids: Tensor) -> None:
    model = far_sighted()

    generated = model.generate(inputs_embeds=model.transformer.wte(ids), max_new_tokens=STEPS, **GREEDY)

    assert generated.tolist() == [write_by_hand(model, row) for row in ids.tolist()]


@pytest.mark.parametrize("kind", ["static", "lookup", "assisted"])
def test_every_way_of_greedy_decoding_writes_what_a_hand_does(far_sighted: Any, ids: Tensor, kind: str) -> None:
    model = far_sighted()
    ways: dict[str, dict[str, Any]] = {
        "static": {"cache_implementation": "static"},
        "lookup": {"prompt_lookup_num_tokens": 3},
        "assisted": {"assistant_model": far_sighted(n_layer=1)},
    }

    generated = model.generate(ids[:1], max_new_tokens=STEPS, **GREEDY, **ways[kind])

    assert generated[0, 16:].tolist() == write_by_hand(model, ids[0].tolist())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [DynamicCache, StaticCache])
def test_generate_goes_on_from_a_cache_that_it_is_given(far_sighted: Any, ids: Tensor, name: str, kind: type) -> None:
    model = far_sighted()
    cache = kind(config=model.config, **({"max_cache_len": 40} if kind is StaticCache else {}))
    # `generate` is transformers' own: it takes the new name only where it has it.
    given = name if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

    with torch.no_grad():
        model(ids[:, :10], **{name: cache})
    generated = model.generate(ids, max_new_tokens=STEPS, **{given: cache}, **GREEDY)

    assert generated[:, 16:].tolist() == [write_by_hand(model, row) for row in ids.tolist()]


def test_beams_score_what_whole_rows_do(far_sighted: Any, ids: Tensor) -> None:
    model = far_sighted()

    found = model.generate(
        ids[:1], max_new_tokens=6, num_beams=3, num_return_sequences=3, length_penalty=0.0,
        return_dict_in_generate=True, output_scores=True, **GREEDY,
    )  # fmt: skip

    with torch.no_grad():
        chances = model(found.sequences, use_cache=False).logits[:, 15:-1].log_softmax(-1)
    expected = chances.gather(-1, found.sequences[:, 16:, None]).sum((1, 2))
    torch.testing.assert_close(found.sequences_scores, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("changes", CHANGES, ids=["full", "sliding"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_continuous_batching_writes_what_a_hand_does(
    far_sighted: Any, ids: Tensor, attention: str, changes: dict
) -> None:
    model = far_sighted(attention, **changes)
    prompts = [ids[0, :5].tolist(), ids[1, :9].tolist(), ids[0, 5:8].tolist()]
    options = GenerationConfig(max_new_tokens=STEPS, do_sample=False, eos_token_id=-1, pad_token_id=0)
    # Unasked, it takes nine tenths of the memory that is free.
    room = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64)
    expected = [write_by_hand(model, prompt) for prompt in prompts]

    batch = model.generate_batch(prompts, generation_config=options, continuous_batching_config=room)

    answers = sorted(batch.values(), key=lambda output: int(output.request_id.split("_")[-1]))
    assert [answer.generated_tokens for answer in answers] == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "kind", [CodeShellForSequenceClassification, CodeShellForTokenClassification, CodeShellForQuestionAnswering]
)
def test_heads_take_a_cache_by_both_names(
    far_sighted: Any, make_config: Callable[..., CodeShellConfig], ids: Tensor, kind: type, name: str
) -> None:
    torch.manual_seed(0)
    model = kind(make_config(num_labels=3)).eval()
    model.transformer.load_state_dict(far_sighted().transformer.state_dict())
    cache = DynamicCache(config=model.config)

    with torch.no_grad():
        whole = model(ids, use_cache=False)
        first, second = (model(piece, **{name: cache}) for piece in ids.split((10, 6), dim=1))

    assert cache.get_seq_length() == 16
    for key in {"logits", "start_logits", "end_logits"} & set(whole.keys()):
        is_one_a_row = kind is CodeShellForSequenceClassification
        split = second[key] if is_one_a_row else torch.cat([first[key], second[key]], dim=1)
        torch.testing.assert_close(split, whole[key], atol=1e-4, rtol=1e-4)


def test_checkpointing_gradients_drops_a_cache_that_replaying_would_fill_twice(far_sighted: Any, ids: Tensor) -> None:
    gradients = []
    for checkpointed in (False, True):
        model = far_sighted().train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        cache = DynamicCache(config=model.config)
        model(ids, labels=ids, past_key_values=cache).loss.backward()
        gradients.append(model.transformer.h[0].attn.c_attn.weight.grad)

    torch.testing.assert_close(gradients[1], gradients[0])


def test_evaluation_writes_what_a_hand_does(far_sighted: Any, tiny_tokenizer: CodeShellTokenizer) -> None:
    model = far_sighted(vocab_size=len(tiny_tokenizer), n_positions=160, eos_token_id=tiny_tokenizer.eos_token_id)
    texts = ["def area(radius):\n    return", "class Stack:\n" * 3, "x = 1"]
    questions = [Question(str(index), Prompt(text), Sampling(STEPS, samples=2)) for index, text in enumerate(texts)]
    answers: dict[str, list[Completion]] = {}

    ModelGenerator(model, tiny_tokenizer, batch_size=6).generate(
        questions, lambda question, completions: answers.update({question.id: completions})
    )

    for question, text in zip(questions, texts, strict=True):
        by_hand = tiny_tokenizer.decode(write_by_hand(model, tiny_tokenizer.encode_text(text)))
        assert {answer.text for answer in answers[question.id]} == {by_hand.partition("<|endoftext|>")[0]}


def test_streaming_writes_what_a_hand_does(far_sighted: Any, tiny_tokenizer: CodeShellTokenizer) -> None:
    model = far_sighted(vocab_size=len(tiny_tokenizer), n_positions=160, eos_token_id=None)
    prompt = tiny_tokenizer.encode_text("def area(radius):\n    return")

    said = stream(model, tiny_tokenizer, prompt, Sampling(STEPS))

    assert said.text == tiny_tokenizer.decode(write_by_hand(model, prompt), skip_special_tokens=True)


TRAVELLED = """
import json, sys
sys.modules["codeshell_hf"] = None
import torch
from transformers import AutoModelForCausalLM, DynamicCache
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
row = torch.tensor([json.loads(sys.argv[2])])
far = 0.0
for name in ("cache", "past_key_values"):
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(row, use_cache=False).logits
        parts = torch.cat([model(part, **{name: cache}).logits for part in row.split(5, dim=1)], dim=1)
    far = max(far, float((whole - parts).abs().max()))
try:
    model(row, cache_params=cache)
except TypeError as error:
    refused = str(error)
written = model.generate(row, max_new_tokens=int(sys.argv[3]), do_sample=False, eos_token_id=None, pad_token_id=0)
print("ANSWER" + json.dumps([type(model).__module__.split(".")[0], far, refused, written[0, row.shape[1]:].tolist()]))
"""


def test_the_file_that_travels_takes_both_names_too(
    far_sighted: Any, tiny_tokenizer: CodeShellTokenizer, ids: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = far_sighted()
    save_folder(model, tiny_tokenizer, tmp_path / "model")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    row = ids[0].tolist()

    done = subprocess.run(
        [sys.executable, "-c", TRAVELLED, str(tmp_path / "model"), json.dumps(row), str(STEPS)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ANSWER")  # transformers prints what auto_docstring misses
    module, far, refused, written = json.loads(done.stdout.partition("ANSWER")[2])
    assert module == "transformers_modules"
    assert far < 1e-4
    assert refused.startswith("cache_params is not an argument of CodeShell's forward")
    assert written == write_by_hand(model, row)


# What is refused.


def test_two_caches_are_refused_and_one_by_both_names_is_taken(far_sighted: Any, ids: Tensor) -> None:
    model = far_sighted()
    cache, other = DynamicCache(config=model.config), DynamicCache(config=model.config)

    with pytest.raises(ValueError, match="two names of one argument, and two caches are given; pass cache alone"):
        model(ids, cache=cache, past_key_values=other)
    model(ids[:, :-1], cache=cache, past_key_values=cache)
    found = model(ids[:, -1:], cache=cache, past_key_values=cache).logits

    torch.testing.assert_close(found, model(ids, use_cache=False).logits[:, -1:], rtol=1e-4, atol=1e-5)


def test_prefix_tuning_generates_what_full_forwards_write_or_says_how(far_sighted: Any, ids: Tensor) -> None:
    """On transformers 5.24 PEFT passes its prefix beside the cache; models that take either lose it silently."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(far_sighted(), peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    model.eval()
    torch.nn.init.normal_(model.prompt_encoder["default"].embedding.weight)
    expected = ids
    for _ in range(4):
        expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], dim=1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 4, **GREEDY}

    assert torch.equal(model.generate(**given, use_cache=False), expected)
    if modeling_codeshell.CACHE_NAME == "cache":
        with pytest.raises(ValueError, match=r"for PEFT's prefix tuning on transformers .* use_cache=False"):
            model.generate(**given, use_cache=True)
    else:
        assert torch.equal(model.generate(**given, use_cache=True), expected)


@pytest.mark.parametrize(("installed", "warned"), [("cache", 1), ("past_key_values", 0)])
def test_the_older_name_is_deprecated_where_the_newer_one_is_transformers_own(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, installed: str, warned: int
) -> None:
    monkeypatch.setattr(modeling_codeshell, "CACHE_NAME", installed)
    cache = object()

    assert modeling_codeshell.choose_cache(None, cache) is cache
    assert modeling_codeshell.choose_cache(cache, None) is cache
    assert ["`past_key_values` is deprecated" in str(one.message) for one in recwarn] == [True] * warned


@pytest.mark.parametrize("keyword", ["cache_params", "past_key_value", "layer_past", "state", "mems", "atention_mask"])
@pytest.mark.parametrize(
    "kind",
    [
        CodeShellForCausalLM,
        CodeShellForSequenceClassification,
        CodeShellForTokenClassification,
        CodeShellForQuestionAnswering,
    ],
)
def test_keywords_that_nothing_reads_are_refused_by_name(
    make_config: Callable[..., CodeShellConfig], ids: Tensor, kind: type, keyword: str
) -> None:
    model = kind(make_config())

    for forward in (model, model.transformer):
        with pytest.raises(TypeError, match=f"^{keyword} is not an argument of CodeShell's forward"):
            forward(ids, **{keyword: DynamicCache(config=model.config)})
    model(ids, **{keyword: None})


def test_attention_of_others_takes_keywords_of_its_own_but_no_cache(
    make_config: Callable[..., CodeShellConfig], ids: Tensor
) -> None:
    seen = []

    def attend(*given: Any, softness: float, **named: Any) -> Any:
        seen.append(softness)
        return sdpa_attention_forward(*given, **named)

    AttentionInterface.register("of_others", attend)
    AttentionMaskInterface.register("of_others", sdpa_mask)
    model = CodeShellForCausalLM(make_config())
    model.set_attn_implementation("of_others")

    model(ids, softness=0.5)

    assert seen == [0.5] * model.config.num_hidden_layers
    with pytest.raises(TypeError, match=r"^state is not an argument of CodeShell's forward"):
        model(ids, softness=0.5, state=DynamicCache(config=model.config))


def test_what_outputs_and_the_loss_take_is_handed_on(far_sighted: Any, ids: Tensor) -> None:
    model = far_sighted("eager")
    items = torch.tensor(7)

    with torch.no_grad():
        outputs = model(
            ids, labels=ids, output_attentions=True, output_hidden_states=True, num_items_in_batch=items,
            return_dict=True, tokenizer=object(),
        )  # fmt: skip
        logits = model(ids, use_cache=False, return_dict=False)[0][:, :-1]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum") / 7
        shifted = model(ids, labels=ids, shift_labels=torch.full_like(ids, 5)).loss
        fives = torch.nn.functional.cross_entropy(model(ids).logits.flatten(0, 1), torch.full((32,), 5))

    assert (len(outputs.attentions), len(outputs.hidden_states)) == (2, 3)
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(shifted, fives)


def test_a_serving_engines_attention_takes_what_it_likes(far_sighted: Any, ids: Tensor) -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    seen: list[Any] = []

    def attend(*args: Any, attention_instances: Any = None, **kwargs: Any) -> Any:
        seen.append(attention_instances)
        return sdpa_attention_forward(*args, is_causal=True, **kwargs)

    AttentionInterface.register("engine", attend)
    model = far_sighted("engine")

    with torch.no_grad():
        logits = model(ids, attention_instances={0: "mine"}, use_cache=False).logits

    assert seen == [{0: "mine"}] * 2
    torch.testing.assert_close(logits, far_sighted()(ids).logits)
