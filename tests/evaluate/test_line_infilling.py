"""Held-out lines to fill in."""

from codeshell_hf.evaluate.line_infilling import first_line, score_lines, show_lines, take_lines
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.text.documents import DocumentRow

TEXT = "import os\n\ndef area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2.0), os.name)\n"


def test_lines_are_taken_out_and_put_back() -> None:
    documents: list[DocumentRow] = [{"id": f"d{index}", "language": "python", "text": TEXT} for index in range(5)]

    lines = take_lines([*documents, {"id": "short", "language": "c", "text": "x\n"}], per_language=3, seed=1)

    assert len(lines) == 3
    for line in lines:
        assert f"{line.prompt}{line.reference}{line.suffix}" == TEXT
        assert 8 <= len((line.reference or "").strip()) <= 80
    assert lines == take_lines(documents, per_language=3, seed=1)


def test_exact_matches_are_counted_by_language() -> None:
    lines = [
        Problem("a", "python", "x\n", "\ny", "    return 1"),
        Problem("b", "python", "x\n", "\ny", "    return 2"),
        Problem("c", "c", "longer prefix\n" * 40, "\ny", "return 1"),
    ]
    written = {line.key: first_line("\n \n  return 1\nmore") for line in lines}

    scores = score_lines(lines, written)

    assert scores["python"].items() >= {"tasks": 2, "exact": 1, "exact_match": 0.5}.items()
    assert scores["all"].items() >= {"tasks": 3, "exact": 2, "exact_match": 0.6667}.items()
    assert scores["all"]["low"] < 0.6667 < scores["all"]["high"]
    shown = show_lines(lines, written)
    assert [row["is_exact"] for row in shown] == [True, True, False]
    assert max(len(str(row["prefix"])) for row in shown) == 240


def test_neither_the_first_nor_the_last_line_is_taken_out() -> None:
    document: DocumentRow = {"id": "d", "language": "python", "text": "first_line\nmiddle_line\nlast_line\n"}

    taken = {take_lines([document], per_language=1, seed=seed)[0].reference for seed in range(12)}

    assert taken == {"middle_line"}
