"""The first reason stays."""

from codeshell_hf.curate.verdicts import Verdicts


def test_verdicts_stay_what_they_were_first() -> None:
    verdicts = Verdicts([3, 2])

    assert verdicts.drop([1 << 32, 0], "first") == 2
    assert verdicts.drop([0, 1, (1 << 32) + 1], "second") == 2
    assert verdicts.select(0).tolist() == [1, 2, 0]
    assert verdicts.select(1).tolist() == [1, 2]
    assert verdicts.count_kept() == 1
