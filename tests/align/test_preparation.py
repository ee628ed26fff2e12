"""Prepared conversations: rows on disk that are those of the encoder, made once, split without doubles."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align import preparation
from codeshell_hf.align.preparation import PreparedConversations, hash_conversation, prepare_conversations
from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import NO_LOSS, Conversation, encode_conversation
from codeshell_hf.text.settings import Reading


def make_conversation(question: str, answer: str) -> Conversation:
    return Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def folder(tiny_tokenizer: CodeShellTokenizer, tmp_path: Path) -> Path:
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path


def prepare(
    folder: Path, rows: Sequence[tuple[str, str]], max_tokens: int | None = None, **options: int
) -> PreparedConversations:
    path = write(folder / "rows.jsonl", [{"prompt": question, "completion": answer} for question, answer in rows])
    return prepare_conversations(
        [path], Reading(), folder / "model", max_tokens, folder / "prepared", is_first=True, **options
    )


def list_rows(prepared: PreparedConversations, max_tokens: int | None = None) -> list[tuple[list[int], list[int]]]:
    train, held_out = prepared.split(0.5, 0, max_tokens)
    return sorted((row["input_ids"], row["labels"]) for part in (train, held_out) for row in part.rows)


def test_rows_are_those_of_the_encoder(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    pairs = [(f"question {n} é", f"answer {n}") for n in range(6)]

    prepared = prepare(folder, pairs)

    encoded = [encode_conversation(tiny_tokenizer, make_conversation(*pair)) for pair in pairs]
    assert list_rows(prepared) == sorted((one.ids, one.labels) for one in encoded)
    assert prepared.findings.forms == {"question-answer": 6}
    assert prepared.shown == "## human:question 0 é|<end>|## assistant:⟦ answer 0|<end>|<|endoftext|>⟧"


@pytest.mark.slow
def test_several_processes_prepare_what_one_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"question {n}", f"answer {n}") for n in range(40)]
    alone = list_rows(prepare(folder, pairs, workers=1))
    monkeypatch.setattr(preparation, "CHUNK_BYTES", 500)

    shared = prepare_conversations(
        [str(folder / "rows.jsonl")], Reading(), folder / "model", None, folder / "other", is_first=True, workers=2
    )

    assert list_rows(shared) == alone
    assert [int(key) for key in shared.table["keys"]] == [hash_conversation(make_conversation(*pair)) for pair in pairs]


def test_long_conversations_are_split_and_counted(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    pairs = [("q", "a"), ("q", "b" * 300), ("q" * 300, "a"), ("p", "a")]

    train, held_out = prepare(folder, pairs, 64).split(0.5, 0, 64)

    rows = [row for part in (train, held_out) for row in part.rows]
    whole = [encode_conversation(tiny_tokenizer, make_conversation(*pair)) for pair in pairs]
    assert (train.split + held_out.split, train.without_loss + held_out.without_loss) == (2, 0)
    assert max(len(row["input_ids"]) for row in rows) == 64
    assert train.answer_tokens + held_out.answer_tokens == sum(
        label != NO_LOSS for one in whole for label in one.labels
    )
    assert train.tokens == sum(len(row["input_ids"]) for row in train.rows)
    assert train.tokens + held_out.tokens < sum(len(one.ids) for one in whole)


def test_conversations_without_an_answer_within_rows_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="none of 1 conversations to train on has an answer within rows of 1 tokens"):
        prepare(folder, [("q", "a"), ("p", "b")], 1).split(0.5, 0, 1)


def test_the_end_of_text_is_a_target_whatever_fills_rows_up(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    """TRL's collator, which `sft` trains with, and the two of transformers that others take."""
    from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as TrlCollator

    end = tiny_tokenizer.eos_token_id
    made = [
        {"input_ids": ids, "labels": labels}
        for ids, labels in sorted(
            list_rows(prepare(folder, [("q", "a"), ("q", "b" * 30)])), key=lambda row: len(row[0])
        )
    ]
    plain = [{"input_ids": row["input_ids"]} for row in made]

    batches = [
        TrlCollator(pad_token_id=tiny_tokenizer.pad_token_id)(made),
        DataCollatorForSeq2Seq(tiny_tokenizer)([dict(row) for row in made]),
        DataCollatorForLanguageModeling(tiny_tokenizer, mlm=False)(plain),
    ]

    for batch in batches:
        lengths = [len(row["input_ids"]) for row in made]
        assert batch["input_ids"].shape == (2, max(lengths))
        assert [(labels == end).sum() for labels in batch["labels"]] == [1, 1]
        assert [int(labels[length - 1]) for labels, length in zip(batch["labels"], lengths, strict=True)] == [end] * 2
        assert set(batch["labels"][0, lengths[0] :].tolist()) == {NO_LOSS}  # padding is no target


def test_finished_work_is_opened_and_not_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_rows(prepare(folder, [("q", "a"), ("p", "b")]))
    monkeypatch.setattr(preparation, "_prepare", None)

    assert list_rows(prepare(folder, [("other", "rows"), ("are", "here")])) == before
    with pytest.raises(TypeError):  # another length is other work
        prepare(folder, [("q", "a"), ("p", "b")], 64)


def test_another_rank_waits_for_the_first_and_prepares_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def finish(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            prepare(folder, [("q", "a"), ("p", "b")])

    monkeypatch.setattr("codeshell_hf.align.preparation.time.sleep", finish)
    path = str(folder / "rows.jsonl")

    made = prepare_conversations([path], Reading(), folder / "model", None, folder / "prepared", is_first=False)

    assert (len(slept), len(list_rows(made))) == (3, 2)


def test_rows_are_mapped_and_not_copied_into_memory(folder: Path) -> None:
    train, _ = prepare(folder, [("q", "a"), ("p", "b")]).split(0.5, 0, None)

    assert [Path(entry["filename"]) for entry in train.rows.cache_files] == [folder / "prepared" / "rows.arrow"]


def test_what_is_left_out_is_told_and_too_much_of_it_stops_the_run(folder: Path) -> None:
    rows: list[Mapping[str, object]] = [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": 1.5, "id": 2}]
    path = write(folder / "rows.jsonl", [*rows, {"x": 1}, {"prompt": "p", "completion": ""}])

    made = prepare_conversations([path], Reading(), folder / "model", None, folder / "prepared", is_first=True)

    assert made.findings.dropped == {"conversations with an empty turn": 1}
    assert made.findings.unused == {"id": 1}
    assert made.findings.named[0].startswith(f"line 3 of {path} has no messages, but x")
    strict = Reading(max_bad_rows=0)
    with pytest.raises(DataError, match=r"line 3 of .* has no messages, but x"):
        prepare_conversations([path], strict, folder / "model", None, folder / "prepared", is_first=True)
    empty = write(folder / "empty.jsonl", [])
    with pytest.raises(DataError, match=r"empty\.jsonl holds no conversation \(it has no rows\)"):
        prepare_conversations([path, empty], Reading(), folder / "model", None, folder / "prepared", is_first=True)


@pytest.mark.parametrize("seed", range(3))
def test_doubles_and_threads_stay_on_one_side(folder: Path, seed: int) -> None:
    pairs = [(f"question {n % 7}", "a") for n in range(28)] + [("question  3 ", " a")]

    prepared = prepare(folder, pairs)
    train, held_out = prepared.split(0.3, seed, None)

    sides = [{tuple(row["input_ids"]) for row in part.rows} for part in (train, held_out)]
    assert len({hash_conversation(make_conversation(*pair)) for pair in pairs}) == 7
    assert not sides[0] & sides[1]
    assert train.conversations + held_out.conversations == 29
    assert 4 <= held_out.conversations <= 9


def test_a_thread_is_one_whatever_its_turns(folder: Path) -> None:
    one, other = make_conversation("q", "a"), make_conversation("q", "b")

    assert hash_conversation(one) != hash_conversation(other)
    assert hash_conversation(Conversation(one.messages, thread="t")) == hash_conversation(
        Conversation(other.messages, thread="t")
    )


def test_the_original_format_is_broken_off_at_a_turn_as_in_the_released_script(
    folder: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    turns = [{"from": who, "value": text} for who, text in (("human", "q" * 9), ("assistant", "a" * 9)) * 4]
    short = [{"from": "human", "value": "q"}, {"from": "assistant", "value": "a"}]
    path = write(
        folder / "rows.jsonl", [{"conversations": turns}, {"conversations": turns[:6]}, {"conversations": short}]
    )
    end = tiny_tokenizer.encode_text(" |<end>| ")
    first = [tiny_tokenizer.eos_token_id]
    for turn in turns:  # by hand, turn by turn
        name = "## human:" if turn["from"] == "human" else "## assistant:"
        said = [*tiny_tokenizer.encode_text(name), *tiny_tokenizer.encode_text(turn["value"]), *end]
        if len(first) + len(said) > 100:
            break
        first += said

    made = prepare_conversations(
        [path], Reading(format="codeshell-original"), folder / "model", 100, folder / "prepared", is_first=True
    )
    rows = list_rows(made, 100)

    assert first in [ids for ids, _ in rows]
    assert len(rows) == 3 - (
        len(
            encode_conversation(
                tiny_tokenizer,
                Conversation(
                    ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}), kind="original"
                ),
            ).ids
        )
        < 17
    )
    assert all(ids[0] == tiny_tokenizer.eos_token_id and labels[0] == NO_LOSS for ids, labels in rows)
