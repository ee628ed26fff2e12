"""Examples as TRL takes them: what is split, dropped and counted."""

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align.examples import (
    make_preference_rows,
    make_prompt_rows,
    make_reward_rows,
)
from codeshell_hf.align.preferences import Pair
from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation, encode_answer, encode_prompt


def make_conversation(question: str, answer: str, tests: str | None = None) -> Conversation:
    return Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), tests=tests)


def make_pair(chosen: str, rejected: str) -> Pair:
    return Pair(({"role": "user", "content": "q"},), chosen, rejected, "tests")


def test_pairs_with_an_answer_that_is_too_long_are_dropped_whole(tiny_tokenizer: CodeShellTokenizer) -> None:
    pairs = [make_pair("x" * 500, "y"), make_pair("x", "y" * 500), make_pair("x", "y")]

    rewards = make_reward_rows(tiny_tokenizer, pairs, 64, purpose="train")
    preferences = make_preference_rows(tiny_tokenizer, pairs, 64, purpose="train")

    prompt = pairs[2].prompt
    assert rewards == [
        {
            "chosen_ids": encode_answer(tiny_tokenizer, prompt, "x"),
            "rejected_ids": encode_answer(tiny_tokenizer, prompt, "y"),
        }
    ]
    assert preferences == [
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "x"}],
            "rejected": [{"role": "assistant", "content": "y"}],
        }
    ]
    assert len(make_reward_rows(tiny_tokenizer, pairs, None, purpose="train")) == 3
    for make in (make_reward_rows, make_preference_rows):
        with pytest.raises(DataError, match="none of 3 pairs to train on is within 2 tokens; raise"):
            make(tiny_tokenizer, pairs, 2, purpose="train")


def test_prompts_need_room_for_an_answer_and_tests_where_nothing_else_rewards(
    tiny_tokenizer: CodeShellTokenizer,
) -> None:
    tested, bare = make_conversation("q", "-", "assert x"), make_conversation("p", "-")
    size = len(encode_prompt(tiny_tokenizer, tested.prompt))

    rows, dropped = make_prompt_rows(
        tiny_tokenizer, [tested, bare], max_new_tokens=10, context_tokens=size + 10, needs_tests=True
    )
    assert rows == [{"prompt": [{"role": "user", "content": "q"}], "tests": "assert x", "reference": "-"}]
    assert dropped == {"prompts have no tests": 1}
    rows, dropped = make_prompt_rows(
        tiny_tokenizer, [tested, bare], max_new_tokens=10, context_tokens=size + 10, needs_tests=False
    )
    assert (len(rows), dropped) == (2, {})
    options = {"max_new_tokens": 10, "context_tokens": 4096, "needs_tests": False}
    rows, dropped = make_prompt_rows(tiny_tokenizer, [tested, bare], max_prompt_tokens=size, **options)
    assert (len(rows), dropped) == (2, {})
    with pytest.raises(DataError, match=rf"\(2 prompts are longer than {size - 1} tokens\)"):
        make_prompt_rows(tiny_tokenizer, [tested, bare], max_prompt_tokens=size - 1, **options)
    with pytest.raises(DataError, match=rf"\(2 prompts leave no room for an answer in {size + 9} positions\)"):
        make_prompt_rows(tiny_tokenizer, [tested, bare], max_new_tokens=10, context_tokens=size + 9, needs_tests=False)
