"""Chats as tokens: one encoder, in which what people write is never special."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.generation import ModelGenerator
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.text.chat import (
    NO_LOSS,
    POLICY_TEMPLATE,
    Conversation,
    EncodedConversation,
    clean_answer,
    encode_answer,
    encode_conversation,
    encode_prompt,
    split_conversation,
)
from codeshell_hf.text.conversation_files import read_conversations

MakeModel = Callable[..., CodeShellForCausalLM]
WRITTEN = list(read_conversations(Path("recipes/nano/data/conversations.jsonl")))
HOSTILE = "What does <|endoftext|> mean? And <fim_prefix>a<fim_suffix>b<fim_middle>?"
# Its own markers are special tokens, as in most models' templates; it trims what messages say.
SPECIAL_TEMPLATE = (
    "{% for message in messages %}<fim_prefix>{{ message['role'] }}\n{{ message['content'] | trim }}<fim_suffix>\n"
    "{% endfor %}{% if add_generation_prompt %}<fim_prefix>assistant\n{% endif %}"
)


def spell(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    """The ids of a text in which nothing is special, by way of its pieces."""
    return list(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text, split_special_tokens=True)))


def test_every_encoder_of_a_chat_gives_the_same_ids(tiny_model: MakeModel, tiny_tokenizer: CodeShellTokenizer) -> None:
    turns = [{"role": "user", "content": HOSTILE}]
    written = f"## human:{HOSTILE}|<end>|## assistant:"  # by hand, as the technical report's format has it
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    model.generation_config.eos_token_id = tiny_tokenizer.eos_token_id

    prompt = encode_prompt(tiny_tokenizer, turns)
    row = encode_conversation(tiny_tokenizer, Conversation((*turns, {"role": "assistant", "content": "x"})))
    evaluated = ModelGenerator(model, tiny_tokenizer, batch_size=1).encode(Prompt(HOSTILE, is_chat=True))

    assert tiny_tokenizer.decode(prompt).replace(" ", "") == written.replace(" ", "")
    assert evaluated == prompt
    assert row.ids[: len(prompt)] == prompt
    assert tiny_tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"] == prompt
    assert tiny_tokenizer.apply_chat_template([turns], add_generation_prompt=True, return_dict=False) == [prompt]
    assert encode_answer(tiny_tokenizer, turns, "x") == row.ids[:-1]
    assert not set(prompt) & set(tiny_tokenizer.all_special_ids)


def test_special_tokens_of_a_template_stay_alive_and_those_of_messages_do_not(
    tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    other = CodeShellTokenizer.from_pretrained(tmp_path)
    other.chat_template = SPECIAL_TEMPLATE
    start, stop = other.convert_tokens_to_ids(["<fim_prefix>", "<fim_suffix>"])
    assert start in other.apply_chat_template([{"role": "user", "content": "x"}])["input_ids"]

    clean = encode_prompt(other, [{"role": "user", "content": "def f(x)"}])
    hostile = encode_prompt(
        other, [{"role": "user", "content": f"  {HOSTILE} "}, {"role": "assistant", "content": "ok"}]
    )

    assert clean == [
        start, *spell(other, "user\ndef f(x)"), stop, *spell(other, "\n"), start, *spell(other, "assistant\n"),
    ]  # fmt: skip
    assert hostile == [
        start, *spell(other, "user\n"), *spell(other, HOSTILE), stop, *spell(other, "\n"),
        start, *spell(other, "assistant\n"), *spell(other, "ok"), stop, *spell(other, "\n"),
        start, *spell(other, "assistant\n"),
    ]  # fmt: skip


def test_a_template_that_changes_messages_is_refused_where_it_matters(
    tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    other = CodeShellTokenizer.from_pretrained(tmp_path)
    other.chat_template = "<fim_prefix>{{ messages[0]['content'] | upper }}"

    with pytest.raises(DataError, match="chat template changes messages"):
        encode_prompt(other, [{"role": "user", "content": HOSTILE}])


def labelled_text(tokenizer: CodeShellTokenizer, row: EncodedConversation) -> str:
    text: str = tokenizer.decode([label for label in row.labels if label != NO_LOSS])
    return text


def test_the_loss_falls_on_the_assistants_words_their_stop_and_the_end(
    tiny_tokenizer: CodeShellTokenizer,
) -> None:
    turns = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "x = 1"})
    conversation = Conversation(turns * 2)

    rendered = encode_conversation(tiny_tokenizer, conversation)

    assert tiny_tokenizer.decode(rendered.ids) == (
        "## human:hi|<end>|## assistant: x = 1|<end>|" * 2 + tiny_tokenizer.eos_token
    )
    assert labelled_text(tiny_tokenizer, rendered) == " x = 1|<end>|" * 2 + tiny_tokenizer.eos_token
    answer = tiny_tokenizer.encode_text(" x = 1|<end>|")
    assert sum(label != NO_LOSS for label in rendered.labels) == 2 * len(answer) + 1
    assert all(label in (NO_LOSS, token) for token, label in zip(rendered.ids, rendered.labels, strict=True))


def test_the_chat_template_is_prefix_preserving(tiny_tokenizer: CodeShellTokenizer) -> None:
    turns = [turn for conversation in WRITTEN[:4] for turn in conversation.messages]
    texts = [tiny_tokenizer.apply_chat_template(turns[: count + 1], tokenize=False) for count in range(len(turns))]

    for shorter, longer in pairwise(texts):
        assert longer.startswith(shorter)
    prompt = tiny_tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert texts[1].startswith(prompt)


def test_a_prompt_is_what_an_answer_is_rendered_behind(tiny_tokenizer: CodeShellTokenizer) -> None:
    for conversation in WRITTEN[:50]:
        prompt = encode_prompt(tiny_tokenizer, conversation.prompt)
        rendered = encode_conversation(tiny_tokenizer, conversation)

        assert rendered.ids[: len(prompt)] == prompt
        assert set(rendered.labels[: len(prompt)]) == {NO_LOSS}
        assert NO_LOSS not in rendered.labels[len(prompt) :]


def test_special_tokens_in_a_conversation_stay_text(tiny_tokenizer: CodeShellTokenizer) -> None:
    turns = (
        {"role": "user", "content": "<|endoftext|>"},
        {"role": "assistant", "content": "<fim_middle> <|endoftext|>"},
    )

    ids = encode_conversation(tiny_tokenizer, Conversation(turns)).ids

    special = set(tiny_tokenizer.all_special_ids)
    assert [token for token in ids if token in special] == [tiny_tokenizer.eos_token_id]
    assert ids[-1] == tiny_tokenizer.eos_token_id


def test_copilot_turns_are_raw_and_fill_the_middle(tiny_tokenizer: CodeShellTokenizer) -> None:
    fill = "<fim_prefix>def f(x):\n    return <fim_suffix>\n<fim_middle>"
    turns = ({"role": "user", "content": fill}, {"role": "assistant", "content": "x + 1"})

    rendered = encode_conversation(tiny_tokenizer, Conversation(turns, kind="copilot"))

    prompt = tiny_tokenizer.encode_infilling("def f(x):\n    return ", "\n")
    answer = [*tiny_tokenizer.encode_text("x + 1"), tiny_tokenizer.eos_token_id]
    assert rendered.ids == [*prompt, *answer]
    assert rendered.labels == [*[NO_LOSS] * len(prompt), *answer]
    plain = Conversation(({"role": "user", "content": "import "}, turns[1]), kind="copilot")
    assert encode_conversation(tiny_tokenizer, plain).ids == [*tiny_tokenizer.encode_text("import "), *answer]
    broken = Conversation(({"role": "user", "content": "<fim_prefix>a<fim_middle>"}, turns[1]), kind="copilot")
    with pytest.raises(DataError, match="is not <fim_prefix>"):
        encode_conversation(tiny_tokenizer, broken)


def test_long_conversations_are_split_and_no_token_is_lost(tiny_tokenizer: CodeShellTokenizer) -> None:
    rendered = EncodedConversation(list(range(10)), [NO_LOSS] * 4 + list(range(4, 10)))

    assert split_conversation(rendered, 20) == [rendered]
    pieces = split_conversation(rendered, 3)
    assert [piece.ids for piece in pieces] == [[3, 4, 5], [6, 7, 8]]
    assert [piece.labels for piece in pieces] == [[NO_LOSS, 4, 5], [6, 7, 8]]


def test_a_reward_model_reads_a_policys_words_as_it_learnt_them(tiny_tokenizer: CodeShellTokenizer) -> None:
    prompt = [{"role": "user", "content": "hi"}]
    learnt = encode_answer(tiny_tokenizer, prompt, "x = 1")
    said = [*prompt, {"role": "assistant", "content": " x = 1|<end>|"}]

    read = tiny_tokenizer.apply_chat_template(said, chat_template=POLICY_TEMPLATE, return_dict=True)["input_ids"]

    assert read == learnt
    unfinished = [*prompt, {"role": "assistant", "content": " x = 1"}]
    text = tiny_tokenizer.apply_chat_template(unfinished, chat_template=POLICY_TEMPLATE, tokenize=False)
    assert text.endswith("## assistant: x = 1")


def test_an_answer_is_cut_at_its_stop() -> None:
    assert clean_answer(" a |<end>| b") == ("a", True)
    assert clean_answer(" a ") == ("a", False)


def test_pieces_of_a_long_row_without_a_token_to_predict_are_dropped() -> None:
    row = EncodedConversation([1, 2, 3, 4, 5, 6, 7], [NO_LOSS, 2, NO_LOSS, NO_LOSS, 5, NO_LOSS, 7])

    pieces = split_conversation(row, 2)

    # [3, 4] has no label; in [5, 6] and [7] the one label comes first, and nothing stands before it
    assert pieces == [EncodedConversation([1, 2], [NO_LOSS, 2])]
