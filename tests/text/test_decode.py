"""Sampled answers: repeatable, whatever the batch, and cut at their stop."""

from collections.abc import Callable
from functools import partial

import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.text.chat import encode_prompt
from codeshell_hf.text.decode import sample_answers

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
