"""Many conversations as tokens: what the template's encoder gives for each, with and without tiktoken."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.text import chat_encoder
from codeshell_hf.text.chat import NO_LOSS, Conversation, EncodedConversation, encode_conversation
from codeshell_hf.text.chat_encoder import ChatEncoder, EncodedArrays, split_row, write_chat
from codeshell_hf.text.conversation_files import read_conversations

USER, ANSWER = {"role": "user", "content": "q é"}, {"role": "assistant", "content": "r <|endoftext|> 🙂"}
EDGES = [
    Conversation((USER, ANSWER)),
    Conversation((ANSWER, USER, ANSWER), without_loss=(0,)),
    Conversation((USER, ANSWER, USER, ANSWER), without_loss=(1,)),
    Conversation((USER, ANSWER, USER, ANSWER), without_loss=(3,)),
    Conversation((USER, ANSWER, ANSWER), without_loss=(1,)),
    Conversation((USER, {"role": "assistant", "content": " \n|<end>|\n "})),
    Conversation(({"role": "user", "content": "<fim_prefix>a<fim_suffix>b<fim_middle>"}, ANSWER), kind="copilot"),
    Conversation((USER, ANSWER, USER, ANSWER), kind="original", without_loss=(1,)),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: CodeShellTokenizer) -> ChatEncoder:
    monkeypatch.setattr(chat_encoder, "COMPARED", 5)
    encoder = ChatEncoder(tiny_tokenizer)
    for conversation in list(read_conversations(Path("recipes/nano/data/conversations.jsonl")))[:5]:
        encoder.encode(conversation)
    assert encoder._quick is not None
    return encoder


def test_both_ways_give_the_same_tokens_and_losses(quick: ChatEncoder, tiny_tokenizer: CodeShellTokenizer) -> None:
    conversations = [*read_conversations(Path("recipes/nano/data/conversations.jsonl")), *EDGES]

    for conversation in conversations:
        encoded, expected = quick.encode(conversation), encode_conversation(tiny_tokenizer, conversation)
        assert encoded.ids.tolist() == expected.ids
        assert encoded.has_loss.tolist() == [label != NO_LOSS for label in expected.labels]


def test_another_template_is_followed(tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_encoder, "COMPARED", 1)
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("## human:", "## person:")
    encoder = ChatEncoder(tiny_tokenizer)

    for conversation in EDGES[:3]:
        assert encoder.encode(conversation).ids.tolist() == encode_conversation(tiny_tokenizer, conversation).ids
    assert encoder._quick is None


def test_an_encoder_that_differs_is_not_used(
    tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chat_encoder, "COMPARED", 1)
    written = write_chat(EDGES[0])
    monkeypatch.setattr(chat_encoder, "_is_written_alike", lambda tokenizer: True)
    monkeypatch.setattr(chat_encoder, "write_chat", lambda conversation: (written[0] + " ", written[1]))
    encoder = ChatEncoder(tiny_tokenizer)

    with caplog.at_level("INFO"):
        encoder.encode(EDGES[0])

    assert encoder._quick is None
    assert "tiktoken gives other ids" in caplog.text


def spell(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    return list(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text, split_special_tokens=True)))


def show_learned(tokenizer: CodeShellTokenizer, encoded: EncodedConversation) -> str:
    return str(tokenizer.decode([label for label in encoded.labels if label != NO_LOSS], skip_special_tokens=False))


def test_an_answer_without_loss_is_context(tiny_tokenizer: CodeShellTokenizer) -> None:
    turns = tuple(
        {"role": role, "content": text}
        for role, text in (("user", "q"), ("assistant", "first"), ("user", "q"), ("assistant", "second"))
    )

    whole, second, first = (
        encode_conversation(tiny_tokenizer, Conversation(turns, without_loss=places)) for places in ((), (1,), (3,))
    )

    assert whole.ids == second.ids == first.ids
    assert show_learned(tiny_tokenizer, whole) == " first|<end>| second|<end>|<|endoftext|>"
    assert show_learned(tiny_tokenizer, second) == " second|<end>|<|endoftext|>"
    assert show_learned(tiny_tokenizer, first) == " first|<end>|"


def test_the_original_format_has_spaces_around_the_end_and_begins_with_the_end_of_text(
    tiny_tokenizer: CodeShellTokenizer,
) -> None:
    conversation = Conversation(
        ({"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}), kind="original"
    )

    encoded = encode_conversation(tiny_tokenizer, conversation)

    end = tiny_tokenizer.eos_token_id
    asked = [*spell(tiny_tokenizer, "## human:"), *spell(tiny_tokenizer, "q"), *spell(tiny_tokenizer, " |<end>| ")]
    name = spell(tiny_tokenizer, "## assistant:")
    answered = [*spell(tiny_tokenizer, "r"), *spell(tiny_tokenizer, " |<end>| ")]
    assert encoded.ids == [end, *asked, *name, *answered]
    assert encoded.labels == [NO_LOSS] * (1 + len(asked) + len(name)) + answered


def test_a_row_is_split_and_pieces_without_a_predicted_loss_are_dropped() -> None:
    row = EncodedArrays(np.arange(9, dtype=np.uint32), np.array([0, 0, 0, 1, 1, 0, 1, 0, 0], np.bool_))

    assert [piece.ids.tolist() for piece in split_row(row, 3)] == [[3, 4, 5]]  # the 6 begins a row: nothing predicts it
    assert [piece.ids.tolist() for piece in split_row(row, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [piece.ids.tolist() for piece in split_row(row, None)] == [list(range(9))]
