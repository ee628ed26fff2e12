"""Examples as TRL takes them: what is split, dropped and counted."""

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align.examples import (
    make_preference_rows,
    make_prompt_rows,
    make_reward_rows,
    make_tuning_rows,
)
from codeshell_hf.align.preferences import Pair
from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import NO_LOSS, Conversation, encode_answer, encode_conversation, encode_prompt


def make_conversation(question: str, answer: str, tests: str | None = None) -> Conversation:
    return Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), tests=tests)


def make_pair(chosen: str, rejected: str) -> Pair:
    return Pair(({"role": "user", "content": "q"},), chosen, rejected, "tests")


def test_the_end_of_text_is_a_target_whatever_fills_rows_up(tiny_tokenizer: CodeShellTokenizer) -> None:
    """TRL's collator, which `sft` trains with, and the two of transformers that others take."""
    from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as TrlCollator

    end = tiny_tokenizer.eos_token_id
    made = make_tuning_rows(
        tiny_tokenizer, [make_conversation("q", "a"), make_conversation("q", "b" * 30)], None, purpose="train"
    )
    plain = [{"input_ids": row["input_ids"]} for row in made.rows]

    batches = [
        TrlCollator(pad_token_id=tiny_tokenizer.pad_token_id)(made.rows),
        DataCollatorForSeq2Seq(tiny_tokenizer)([dict(row) for row in made.rows]),
        DataCollatorForLanguageModeling(tiny_tokenizer, mlm=False)(plain),
    ]

    for batch in batches:
        lengths = [len(row["input_ids"]) for row in made.rows]
        assert batch["input_ids"].shape == (2, max(lengths))
        assert [(labels == end).sum() for labels in batch["labels"]] == [1, 1]
        assert [int(labels[length - 1]) for labels, length in zip(batch["labels"], lengths, strict=True)] == [end] * 2
        assert set(batch["labels"][0, lengths[0] :].tolist()) == {NO_LOSS}  # padding is no target


def test_long_conversations_are_split_and_counted(tiny_tokenizer: CodeShellTokenizer) -> None:
    short, long = make_conversation("q", "a"), make_conversation("q", "b" * 300)
    all_question = make_conversation("q" * 300, "a")

    made = make_tuning_rows(tiny_tokenizer, [short, long, all_question], 64, purpose="train")

    assert (made.split, made.without_loss) == (2, 0)
    assert max(len(row["input_ids"]) for row in made.rows) == 64
    whole = [encode_conversation(tiny_tokenizer, one) for one in (short, long, all_question)]
    labelled = sum(label != NO_LOSS for one in whole for label in one.labels)
    assert made.answer_tokens == labelled
    assert made.tokens == sum(len(row["input_ids"]) for row in made.rows) < sum(len(one.ids) for one in whole)


def test_without_a_limit_conversations_stay_whole(tiny_tokenizer: CodeShellTokenizer) -> None:
    made = make_tuning_rows(tiny_tokenizer, [make_conversation("q", "b" * 300)], None, purpose="train")

    assert (made.split, len(made.rows)) == (0, 1)


def test_conversations_without_an_answer_within_rows_are_refused(tiny_tokenizer: CodeShellTokenizer) -> None:
    with pytest.raises(DataError, match="none of 1 conversations to measure on has an answer within rows of 1 tokens"):
        make_tuning_rows(tiny_tokenizer, [make_conversation("q", "a")], 1, purpose="measure")


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
    with pytest.raises(DataError, match=rf"\(2 prompts leave no room for an answer in {size + 9} positions\)"):
        make_prompt_rows(tiny_tokenizer, [tested, bare], max_new_tokens=10, context_tokens=size + 9, needs_tests=False)
