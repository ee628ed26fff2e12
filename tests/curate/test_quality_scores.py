"""Scores are read out of what models say in English and Chinese; what is not clear is none."""

import time

import pytest

from codeshell_hf.curate.quality_scores import SIDES, Assessment, read_scores

# fmt: off
SHAPES: list[tuple[str, int | None]] = [
    ('Score: 3', 3),
    ('Score (0-5): 4', 4),
    ('Score (0–5): 4', 4),
    ('Score [0-5]: 4', 4),
    ('Score (from 0 to 5): 2', 2),
    ('The score is 4.', 4),
    ('评分：4', 4),
    ('评分: 4分', 4),
    ('得分为3分', 3),
    ('**4**', 4),
    ('4', 4),
    ('4.', 4),
    ('4/5', 4),
    ('4 / 5', 4),
    ('4 out of 5', 4),
    ('Score: 4/5', 4),
    ('Score: 4 out of 5.', 4),
    ('**Score:** 4', 4),
    ('**Score**: 5', 5),
    ('## Score\n\n3', 3),
    ('| Score | 4 |', 4),
    ('Score = 0', 0),
    ('score - 2', 2),
    ('Score: **4**', 4),
    ('Score: `4`', 4),
    ('Score: "4"', 4),
    ('[[4]]', 4),
    ('$\\boxed{4}$', 4),
    ('Score: 4.0', 4),
    ('Score: four', 4),
    ('Score：４', 4),
    ('总分：４／５', 4),
    ('最终评分：3', 3),
    ('综合评分（0-5分）：4', 4),
    ('我给这段代码打4分。', 4),
    ('这个文件可以得四分。', 4),
    ('评分为：三分', 3),
    ('满分5分，我给3分', 3),
    ('评分：4分（满分5分）', 4),
    ('评分是 2', 2),
    ('{"score": 4}', 4),
    ('{"reason": "fine", "score": "4"}', 4),
    ('```json\n{"correctness": 5, "score": 3}\n```', 3),
    ("{'score': 4, 'reason': 'clear'}", 4),
    ('{"score": 4,}', 4),
    ('{"result": {"score": 2}}', 2),
    ('{"评分": 3}', 3),
    ('{"Overall": "4/5"}', 4),
    ('<think>Perhaps Score: 1? No.</think>\nScore: 4', 4),
    ('maybe 2</think>Score: 5', 5),
    ('<think>Score: 3', None),
    ('At first Score: 2, no.\nScore: 4', 4),
    ('Final score: 3\n(An earlier score: 5 was too high.)', 3),
    ('Correctness: 4\nReadability: 3\nSecurity: 5\nValue: 2\nOverall: 3', 3),
    ('Correctness: 4, Readability: 3', None),
    ('Correctness score: 5\nSecurity score: 5\nScore: 2', 2),
    ('正确性：5\n可读性：4\n安全性：5\n价值：3\n总体评分：4', 4),
    ('I would give it a 3.', 3),
    ('I rate this file 4 out of 5', 4),
    ('This file deserves a 2.', 2),
    ('I give this a score of 4', 4),
    ('A score of 5 needs tests; this gets 3.', None),
    ('On a scale from 0 to 5, I give it a 3.', 3),
    ('Clean code.\n\n3', 3),
    ('5\n\nAn example for others.', 5),
    ('The answer is 4.', 4),
    ('Score: 3-4', None),
    ('Score: 3 to 4', None),
    ('Score: 3 or 4', None),
    ('Score: 3.5', None),
    ('Score: 3.5/5', None),
    ('Score: 9', None),
    ('Score: -1', None),
    ('Score: 45', None),
    ('Score: 8/10', None),
    ('80%', None),
    ('Score: 80%', None),
    ('Score: N/A', None),
    ('Score (0-5):', None),
    ('The scale is 0 to 5.', None),
    ('', None),
    ('I cannot score this file.', None),
    ("I can't give a score of 5 here.", None),
    ('抱歉，我无法评分。', None),
    ('I would rather not.', None),
    ('The file has 4 functions and 3 tests.', None),
    ('It was written on 4/5/2020.', None),
    ('def f(): return 4', None),
    ('3/5 of the tests fail, 4/5 are slow', None),
    ('Rating: ★★★★☆', 4),
    ('⭐⭐⭐', 3),
    ('The comment "Score: 5" in the file is an injection.\nScore: 1', 1),
    ('Score: 1\nThe file itself asks for "Score: 5".', 1),
    ("Score: 1\nNote: its comment says 'give it a score of 5'.", 1),
    ('underscore: 4', None),
    ('Score: 2 (poor)', 2),
    ('Score: (4)', 4),
    ('Score: 4 points', 4),
    ('Quality rating: 4 stars', 4),
    ('Score:\n4', 4),
    ('Score: 4th', None),
    ('{"score": 7}', None),
    ('{"score": 3.5}', None),
    ('{"score": true}', None),
    ('{"score": null}', None),
    ('{"scores": {"correctness": 4}}', None),
    ('{"score": [3, 4]}', None),
    ("I'd rate this a solid 4 out of 5.", 4),
    ('Final verdict — **Quality score: 3**', 3),
    ('综合评分：3（满分5分）', 3),
    ('打分：5', 5),
    ('{"score": "2", "reason": "short"}', 2),
    ('```json\n{"score": 1}\n```\nThe code is poor.', 1),
    ('Score: 7/10', None),
    ('I cannot evaluate this code.', None),
    ('Between 2 and 3.', None),
    ('Score: 4 (good structure, 2 bugs, 3 warnings)', 4),
    ('<score>3</score>', 3),
    ('这段代码可以给到4分。', 4),
]
# fmt: on


@pytest.mark.parametrize(("answer", "score"), SHAPES)
def test_a_score_is_read_or_there_is_none(answer: str, score: int | None) -> None:
    found = read_scores(answer)

    assert (None if found is None else found.score) == score


@pytest.mark.parametrize(
    ("answer", "sides"),
    [
        ('{"reasons": "x", "correctness": 5, "readability": 4, "security": 3, "value": 2, "score": 4}', (5, 4, 3, 2)),
        ('{"sides": {"Correctness": 5, "Readability": "4/5", "Security": 3, "Value": 2}, "score": 4}', (5, 4, 3, 2)),
        ('{"correctness": {"score": 1, "reason": "x"}, "security": 9, "score": 4}', (1, None, None, None)),
        ("- **Correctness**: 5\n- **Readability** (0-5): 4/5\n- Security = 3\n- Value: 2\n\nScore: 4", (5, 4, 3, 2)),
        ("正确性：5，可读性：4，安全性：3，价值：2。总分：4", (5, 4, 3, 2)),
        ("| Correctness | 5 |\n| Readability | 4 |\n| Security | 3 |\n| Value | 2 |\n| Overall | 4 |", (5, 4, 3, 2)),
        ("Score: 4", (None, None, None, None)),
        ("Correctness: 3-4. Score: 4", (None, None, None, None)),
    ],
)
def test_the_four_sides_are_kept_beside_the_score(answer: str, sides: tuple[int | None, ...]) -> None:
    assert read_scores(answer) == Assessment(4, *sides)
    assert SIDES == ("correctness", "readability", "security", "value")


@pytest.mark.parametrize("piece", ["{", '{"a":', "Final ", "score ", "4 / 5 ", "score (", "<think>", "'", "给"])
def test_long_answers_are_read_in_bounded_time(piece: str) -> None:
    began = time.process_time()

    read_scores(piece * (200_000 // len(piece)))

    assert time.process_time() - began < 3
