"""Training files reproduced verbatim."""

from codeshell_hf.evaluate.memorisation import count_common_prefix, score_memorisation
from codeshell_hf.evaluate.problems import Problem


def test_what_is_known_by_heart_is_measured_by_letters() -> None:
    problems = [Problem(str(n), "py", "p", None, "abcdef") for n in range(2)]

    score = score_memorisation(problems, {"py/0": ["abcdefgh"], "py/1": ["abcx"]})

    assert score.measures["verbatim"].value == 0.5
    assert score.measures["characters in common"].value == 0.75
    assert (count_common_prefix("abc", "ab"), count_common_prefix("", "a"), count_common_prefix("xb", "ab")) == (
        2,
        0,
        0,
    )
