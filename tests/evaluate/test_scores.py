"""Means over problems, by language, with intervals."""

from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.scores import count_ends, score_texts


def test_texts_are_scored_by_language_with_intervals() -> None:
    problems = [Problem(str(i), "py" if i % 2 else "js", "p", None, f"x{i} = 1") for i in range(8)]
    written = {problem.key: [f" x{problem.id} = 1 " if problem.id < "4" else "y"] for problem in problems}

    score = score_texts(problems, written, has_bleu=True)

    assert score.measures["exact match"].value == 0.5
    assert score.languages["py"]["exact match"].problems == 4
    assert score.measures["exact match"].low < 0.5 < score.measures["exact match"].high
    assert score.measures["bleu"].low <= score.measures["bleu"].value <= score.measures["bleu"].high
    assert count_ends(["stop", "length", "stop", "prompt too long"]) == {
        "ended by length": 1, "prompt too long": 1, "ended by stop": 2,
    }  # fmt: skip
