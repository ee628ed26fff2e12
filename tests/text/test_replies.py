"""Replies of servers: every form that is one, and those that are none."""

import pytest

from codeshell_hf.text.failures import Failed
from codeshell_hf.text.replies import Reply, read_choices, read_json, repair_text


def test_choices_of_chats_and_completions_are_read_from_their_own_places() -> None:
    choice = {"message": {"content": "chat"}, "text": "completion", "finish_reason": "length"}

    assert read_choices({"choices": [choice]}, is_chat=True) == [Reply("chat", "length")]
    assert read_choices({"choices": [choice]}, is_chat=False) == [Reply("completion", "length")]


def test_content_in_parts_is_its_texts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "text": "x"}, {"text": "b"}, "c", {"type": "text"}]

    assert read_choices({"choices": [{"message": {"content": parts}}]}, is_chat=True) == [Reply("ab", None)]


def test_an_answer_that_ended_before_its_first_word_is_empty() -> None:
    choice = {"message": {"content": None, "reasoning_content": "so"}, "finish_reason": "length"}

    assert read_choices({"choices": [choice]}, is_chat=True) == [Reply("", "length")]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([], "without choices"),
        (None, "without choices"),
        ({"0": {}}, "without choices"),
        (["text"], "not an object"),
        ([{"message": {"content": None}, "finish_reason": "stop"}], "without text"),
        ([{"message": {"content": []}}], "without text"),
        ([{"message": "text"}], "without text"),
        ([{"message": {"content": "half"}, "finish_reason": "error"}], "failed"),
        ([{"message": {"content": "half"}, "error": {"code": 502}}], "failed"),
        ([{"message": {"content": "good"}}, {"message": {}}], "without text"),
    ],
)
def test_a_reply_with_a_choice_that_cannot_be_read_is_a_failure(choices: object, words: str) -> None:
    with pytest.raises(Failed, match=words) as caught:
        read_choices({"choices": choices}, is_chat=True)

    assert not caught.value.failure.is_refusal  # another try may be good


def test_only_an_object_is_a_reply() -> None:
    assert read_json(b'{"a": "\xff"}') == {"a": "\ufffd"}
    for content, words in ((b'["x"]', "not an object"), (b'data: {"a": 1}', "a stream"), (b": ping", "a stream")):
        with pytest.raises(ValueError, match=words):
            read_json(content)


def test_surrogates_are_paired_or_replaced() -> None:
    assert repair_text("a\ud83d\ude00b\udc00") == "a\U0001f600b\ufffd"
