"""Chats as tokens: one encoder, in which what people write is never special."""

from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.generation import ModelGenerator
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.text.chat import Conversation, encode_answer, encode_conversation, encode_prompt

HOSTILE = "What does <|endoftext|> mean? And <fim_prefix>a<fim_suffix>b<fim_middle>?"
# Its own markers are special tokens, as in most models' templates; it trims what messages say.
SPECIAL_TEMPLATE = (
    "{% for message in messages %}<fim_prefix>{{ message['role'] }}\n{{ message['content'] | trim }}<fim_suffix>\n"
    "{% endfor %}{% if add_generation_prompt %}<fim_prefix>assistant\n{% endif %}"
)


def spell(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    """The ids of a text in which nothing is special, by way of its pieces."""
    return list(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text, split_special_tokens=True)))


def test_every_encoder_of_a_chat_gives_the_same_ids(tiny_model, tiny_tokenizer: CodeShellTokenizer) -> None:
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
    assert encode_answer(tiny_tokenizer, turns, "x") == row.ids[:-1]
    assert not set(prompt) & set(tiny_tokenizer.all_special_ids)


def test_special_tokens_of_a_template_stay_alive_and_those_of_messages_do_not(
    tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    other = CodeShellTokenizer.from_pretrained(tmp_path)
    other.chat_template = SPECIAL_TEMPLATE
    start, stop = other.convert_tokens_to_ids(["<fim_prefix>", "<fim_suffix>"])

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

    with pytest.raises(DataError, match="changes what messages say"):
        encode_prompt(other, [{"role": "user", "content": HOSTILE}])
