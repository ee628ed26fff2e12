"""Problems that touch the training data."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from codeshell_hf.evaluate.contamination import TrainingData, add_clean, describe_touched, find_touched, mark_touched
from codeshell_hf.evaluate.metrics import pass_at_k
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.results import ResultCache
from codeshell_hf.evaluate.scores import Measure, Score
from tests.evaluate.sets import make_task

TEN = "one two three four five six seven eight nine ten"


def test_ten_words_in_a_row_touch_whatever_their_case_and_marks() -> None:
    problems = {
        "a": [f"before {TEN} after"],
        "b": ["one two three four five six seven eight nine eleven"],
        "c": ["too short"],
    }

    def touch(text: str) -> frozenset[str]:
        return find_touched(problems, ["nothing", text])

    assert touch(f"x; {TEN.replace(' ', ', ').upper()}!") == {"a"}
    assert touch(TEN.replace(" ten", " 10")) == frozenset()
    assert touch("too short") == frozenset()  # of so few words, nothing follows


def test_all_problems_of_a_shared_text_are_found_and_short_ones_as_a_whole() -> None:
    problems = {
        "a": [TEN],
        "b": [TEN],
        "c": ["return the sum of two numbers"],
        "d": ["return the sum of three numbers"],
    }

    assert find_touched(problems, [TEN, "# Return the sum of two numbers."]) == {"a", "b", "c"}


def test_documents_and_conversations_are_searched_and_held_out_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    rows = [{"text": TEN.replace("ten", "tenth"), "split": "train"}, {"text": TEN, "split": "held-out"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents" / "part-00000.parquet")
    turns = {"messages": [{"role": "user", "content": "six words of a question here"}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(turns) + "\n", encoding="utf-8")
    task = make_task("t", "humaneval-greedy-v1")
    object.__setattr__(task, "problems", [
        Problem("1", "py", TEN), Problem("2", "py", "", None, "Six words of a question here!"),
    ])  # fmt: skip
    training = TrainingData(tmp_path, (tmp_path / "chat.jsonl",))
    cache = ResultCache(tmp_path / "kept", "code")

    (marked,), questions = mark_touched([task], {"gsm8k": {"en/0": [TEN.replace("ten", "tenth")]}}, training, cache)

    assert marked.touched == frozenset({"py/2"})
    assert questions == {"gsm8k": {"en/0"}}
    assert mark_touched([task], {}, TrainingData(), cache)[0][0].touched is None


def test_the_clean_figure_is_that_of_the_other_problems() -> None:
    measure = Measure(0.5, 0.0, 1.0, 4)
    score = Score({"pass@1": measure, "pass@2": measure})
    score.problems = [
        {"id": str(number), "language": "py", "samples": 4, "right": right} for number, right in enumerate([4, 4, 1, 3])
    ]

    add_clean(score, frozenset({"py/0", "py/1"}))

    assert score.touched == 2
    assert score.clean["pass@1"].value == (1 + 3) / 8
    assert score.clean["pass@2"].value == round((pass_at_k(4, 1, 2) + pass_at_k(4, 3, 2)) / 2, 4)
    assert describe_touched("t", 4, {"m": score}).startswith(
        "t: 2 of 4 problems touch the training data; on the others: m pass@1 50.0 ["
    )
    assert "is not known" in describe_touched("t", 4, {"m": Score()})
