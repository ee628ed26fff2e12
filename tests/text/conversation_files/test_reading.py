"""Files of conversations: what is counted, refused and left out, and the files that people have."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import Findings, parse_conversation, read_conversation_set, read_conversations
from codeshell_hf.text.settings import Reading

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
CASES = Path(__file__).parents[4] / "shared" / "cases" / "conversations"


def write_lines(path: Path, *lines: Mapping[str, object] | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_files_without_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); name a file of JSON Lines"):
        list(read_conversations(tmp_path / "none.jsonl"))
    for name, text in (("empty", "\n\n"), ("list", "[]")):
        with pytest.raises(DataError, match=rf"{name}.jsonl holds no conversation \(it has no rows\); write one JSON"):
            list(read_conversations(write_lines(tmp_path / f"{name}.jsonl", text)))
    with pytest.raises(DataError, match=r"holds no conversation \(1 bad row, the first: line 1 of .* is not JSON"):
        list(read_conversations(write_lines(tmp_path / "broken.jsonl", '{"a": }')))
    with pytest.raises(DataError, match=r"holds no conversation \(1 conversations hold no answer\)"):
        list(read_conversations(write_lines(tmp_path / "prompts.jsonl", {"prompt": "a"})))


def test_bad_rows_are_counted_and_named_up_to_a_threshold(tmp_path: Path) -> None:
    lines = [{"messages": TURNS}, "{", {"messages": [{"role": "x", "content": "a"}]}, {"messages": TURNS}, "["]
    path = write_lines(tmp_path / "rows.jsonl", *lines)

    made = read_conversation_set([path], Reading(max_bad_rows=3))

    assert made.conversations == [Conversation(tuple(TURNS))] * 2
    assert made.findings.bad_rows == 3
    assert [line.split(f" of {path}")[0] for line in made.findings.named] == ["line 2", "turn 1 on line 3", "line 5"]
    assert made.findings.describe()[-1].startswith(f"3 bad rows left out: line 2 of {path} is not JSON")
    with pytest.raises(DataError, match=r"line 2 of .* is not JSON .*; 3 rows are bad, and max_bad_rows is 2"):
        read_conversation_set([path], Reading(max_bad_rows=2))
    with pytest.raises(DataError, match=r"line 2 of .* is not JSON .*write one object a line$"):
        read_conversation_set([path], Reading(max_bad_rows=0))
    with pytest.raises(DataError, match="6 rows are bad, and max_bad_rows is 5"):
        read_conversation_set([path, path], Reading(max_bad_rows=5))
    assert read_conversation_set([path, path], Reading(max_bad_rows=6)).findings.bad_rows == 6


def test_only_some_bad_rows_are_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"messages": TURNS}, *["{"] * 9)

    described = read_conversation_set([path], Reading()).findings.describe()[-1]

    assert described.startswith("9 bad rows left out: line 2")
    assert described.endswith(" and 4 more")


def test_what_a_plain_reader_leaves_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"messages": TURNS, "id": 1}, "{")

    assert len(list(read_conversations(path))) == 1
    assert f"{path}: fields that nothing uses: id (1)" in caplog.messages
    assert caplog.messages[-1].startswith(f"{path}: 1 bad row left out: line 2 of {path} is not JSON")


def test_forms_may_be_mixed_and_are_counted(tmp_path: Path) -> None:
    rows = [{"messages": TURNS}, {"instruction": "a", "output": "b"}, {"question": "a", "answer": "b", "id": 7}]
    path = write_lines(tmp_path / "rows.jsonl", *rows)

    made = read_conversation_set([path], Reading())

    assert made.conversations == [Conversation(tuple(TURNS))] * 3
    assert made.findings.as_counts() == {
        "forms": {"messages": 1, "alpaca": 1, "question-answer": 1},
        "dropped": {}, "changed": {}, "unused_fields": {"id": 1}, "bad_rows": 0, "first_bad_rows": [],
    }  # fmt: skip
    assert "fields that nothing uses: id (1)" in made.findings.describe()


def test_language_and_tests_are_kept() -> None:
    row = {"messages": TURNS, "language": "en", "tests": ["assert x", "assert y"]}

    assert parse_conversation(row, "x") == Conversation(tuple(TURNS), "en", "assert x\nassert y")
    with pytest.raises(DataError, match=r"line 1 has tests \{'a': 1\}; write a text"):
        parse_conversation({**row, "tests": {"a": 1}}, "line 1")


def test_prompts_need_no_answer(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "p.jsonl", {"prompt": "q", "tests": "t"}, {"messages": TURNS}, {"messages": TURNS[:1]}
    )

    made = read_conversation_set([path], Reading(), needs_answer=False).conversations

    assert [one.prompt for one in made] == [[{"role": "user", "content": text}] for text in "qaa"]
    assert made[0].tests == "t"
    assert [one.messages[-1]["content"] for one in made] == ["", "b", ""]


def test_folders_and_saved_datasets_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / ".cache").mkdir(parents=True)
    (folder / "README.md").write_text("# words")
    write_lines(folder / "dataset_infos.json", {})
    write_lines(folder / ".cache" / "x.jsonl", "{")
    write_lines(folder / "b.jsonl", {"messages": TURNS})
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": TURNS}] * 2), folder / "a.parquet")

    made = read_conversation_set([folder], Reading())
    assert (len(made.conversations), made.findings.left_out) == (3, [])

    write_lines(folder / "train-1.jsonl", {"messages": TURNS})
    made = read_conversation_set([folder], Reading())
    assert len(made.conversations) == 1
    assert made.findings.describe()[-1] == f"not read: {folder / 'a.parquet'}, {folder / 'b.jsonl'}"

    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"void has no data file; put one of \.jsonl"):
        read_conversation_set([tmp_path / "void"], Reading())


def test_what_datasets_saves_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list([{"messages": TURNS}] * 3)
    data.save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict(train=data, test=data).save_to_disk(tmp_path / "splits")
    DatasetDict(validation=data, test=data).save_to_disk(tmp_path / "others")

    assert len(read_conversation_set([tmp_path / "one"], Reading()).conversations) == 3
    made = read_conversation_set([tmp_path / "splits"], Reading())
    assert (len(made.conversations), made.findings.left_out) == (3, [str(tmp_path / "splits" / "test")])
    with pytest.raises(DataError, match=r"has splits .* and no train; name the folder of one split"):
        read_conversation_set([tmp_path / "others"], Reading())


def test_names_of_the_hub_need_a_revision_and_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[object] = []

    def download(repository: str, file: str | None = None, **options: object) -> str:
        asked.append((repository, file, options["repo_type"], options["revision"]))
        return str(tmp_path if file is None else tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    write_lines(tmp_path / "a.jsonl", {"messages": TURNS})

    for name in ("hub:owner/name@v1", "hub:owner/name@v1/a.jsonl"):
        assert len(read_conversation_set([name], Reading()).conversations) == 1
    assert asked == [("owner/name", None, "dataset", "v1"), ("owner/name", "a.jsonl", "dataset", "v1")]
    for name in ("hub:owner/name", "hub:name@v1", "hub:owner/name@"):
        with pytest.raises(DataError, match="has no revision; write hub:OWNER/NAME@REVISION"):
            read_conversation_set([name], Reading())

    def fail(*_: object, **__: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DataError, match=r"cannot be downloaded \(no route to host\); check name"):
        read_conversation_set(["hub:owner/name@v1"], Reading())


def test_findings_of_parts_add_up() -> None:
    first, second = Findings(bad_rows=1, named=["a"]), Findings(bad_rows=7, named=["b"] * 5)
    second.forms["messages"] = 2

    first.extend(second)

    assert (first.bad_rows, first.named, first.forms) == (8, ["a", "b", "b", "b", "b"], {"messages": 2})
    assert Findings().describe() == ["read no row"]


READ = [
    "alpaca.json", "bom.jsonl", "codeshell_copilot.jsonl", "codeshell_jsonl.jsonl", "codeshell_official.json",
    "codeshell_official_copilot.json", "crlf.jsonl", "dolly.jsonl", "evol_code.jsonl", "gsm8k.jsonl",
    "magicoder.jsonl", "oasst_flat.jsonl", "openai.jsonl", "openai_tools.jsonl", "openai_weight.jsonl",
    "p_kto.jsonl", "prompt_completion.jsonl", "sharegpt_array.json", "sharegpt_chatgpt_role.jsonl",
    "sharegpt_ends_human.jsonl", "sharegpt_gpt_first.jsonl", "sharegpt_system_column.jsonl", "sharegpt_tool.jsonl",
]  # fmt: skip


@pytest.mark.shared
@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_shared_cases_are_read_or_refused_for_their_row() -> None:
    for name in READ:
        made = read_conversation_set([CASES / name], Reading())
        assert made.conversations, name
        assert made.findings.bad_rows == 0, name
        assert all(one.messages[-1]["role"] == "assistant" for one in made.conversations)
    for name in ("latin1.jsonl", "surrogate.jsonl"):
        with pytest.raises(DataError, match=rf"1 bad row, the first: .*line 1 of .*{name}"):
            read_conversation_set([CASES / name], Reading())
