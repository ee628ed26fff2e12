"""Trees of messages: each thread is a conversation, and no answer is learned twice."""

import json
import random
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import read_conversation_set
from codeshell_hf.text.settings import Reading


def message(name: str, parent: str | None, role: str, **more: object) -> dict[str, object]:
    return {"message_id": name, "parent_id": parent, "role": role, "text": name, "lang": "en", **more}


# q -> a1 (worse), a0 (better) -> q2 -> a3
MESSAGES = [
    message("q", None, "prompter"),
    message("a1", "q", "assistant", rank=1),
    message("a0", "q", "assistant", rank=0, review_count=3),
    message("q2", "a0", "prompter"),
    message("a3", "q2", "assistant", rank=None),
    message("spam", "q2", "assistant", deleted=True),
]


def threads(conversations: list[Conversation]) -> list[tuple[str, tuple[int, ...], str | None]]:
    return [("-".join(m["content"] for m in one.messages), one.without_loss, one.thread) for one in conversations]


@pytest.mark.parametrize("seed", range(4))
def test_messages_in_any_order_are_threads_from_the_best(tmp_path: Path, seed: int) -> None:
    rows = random.Random(seed).sample(MESSAGES, len(MESSAGES))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    made = read_conversation_set([tmp_path / "rows.jsonl"], Reading())

    assert threads(made.conversations) == [("q-a0-q2-a3", (), "q"), ("q-a1", (), "q")]
    assert made.findings.forms == {"oasst": 2}


def nest(name: str) -> dict[str, object]:
    own = next(row for row in MESSAGES if row["message_id"] == name)
    return {**own, "replies": [nest(str(row["message_id"])) for row in MESSAGES if row["parent_id"] == name]}


def test_a_tree_in_a_row_gives_the_same_threads(tmp_path: Path) -> None:
    row = {"message_tree_id": "q", "tree_state": "ready", "prompt": nest("q")}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")

    made = read_conversation_set([tmp_path / "rows.jsonl"], Reading())

    assert threads(made.conversations) == [("q-a0-q2-a3", (), "q"), ("q-a1", (), "q")]


def test_an_answer_that_threads_share_is_learned_once(tmp_path: Path) -> None:
    rows = [*MESSAGES, message("q3", "a0", "prompter"), message("a4", "q3", "assistant")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    made = read_conversation_set([tmp_path / "rows.jsonl"], Reading())

    assert threads(made.conversations)[:2] == [("q-a0-q2-a3", (), "q"), ("q-a0-q3-a4", (1,), "q")]


def test_lost_parents_and_rows_of_another_form_are_counted(tmp_path: Path) -> None:
    rows = [*MESSAGES, message("lost", "nobody", "assistant"), {"prompt": "q", "completion": "r"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    findings = read_conversation_set([tmp_path / "rows.jsonl"], Reading()).findings

    assert findings.dropped == {"messages without their parent": 1}
    assert (findings.bad_rows, "is not a message of a tree" in findings.named[0]) == (1, True)


def test_messages_that_are_their_own_parents_end(tmp_path: Path) -> None:
    rows = [message("a", "b", "assistant"), message("b", "a", "prompter"), message("c", "c", "prompter")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(DataError, match="holds no conversation"):
        read_conversation_set([tmp_path / "rows.jsonl"], Reading())


def test_a_long_thread_is_no_deep_recursion(tmp_path: Path) -> None:
    rows = [message("0", None, "prompter")]
    rows += [message(str(n), str(n - 1), "prompter" if n % 2 == 0 else "assistant") for n in range(1, 3000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    made = read_conversation_set([tmp_path / "rows.jsonl"], Reading())

    assert [len(one.messages) for one in made.conversations] == [3000]
