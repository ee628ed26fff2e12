"""Licences and opt-outs."""

import json
from pathlib import Path

import daft
import pytest

from codeshell_hf.curate.rights import is_allowed, judge_rights, read_opt_outs
from codeshell_hf.curate.settings import Rights
from codeshell_hf.errors import DataError
from tests.curate.toy_corpus import run


def test_licences_and_opt_outs_are_honoured(tmp_path: Path) -> None:
    licences = {"a/one": ["MIT"], "a/two": ["MIT", "GPL-3.0"], "b/three": None, "c/four": ["MIT"], "d/five": ["MIT"]}
    rows = [
        {"content": f"x = '{name}'\n", "lang": "Python", "max_stars_repo_licenses": names, "max_stars_repo_name": name}
        for name, names in licences.items()
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "opted-out.txt").write_text("c/four  # asked in May\n\nd/\n")
    rights = Rights(licences=("MIT",), opt_out=tmp_path / "opted-out.txt")

    strict = run(path, tmp_path / "out", kind="jsonl", near_duplicates=None, rights=rights).funnel
    generous = run(
        path,
        tmp_path / "out2",
        kind="jsonl",
        near_duplicates=None,
        rights=rights.model_copy(update={"allows_unknown": True}),
    ).funnel

    assert dict(strict.reasons()) == {"licence": 2, "opted-out": 2}
    assert dict(generous.reasons()) == {"licence": 1, "opted-out": 2}


@pytest.mark.parametrize(
    ("licence", "is_right"),
    [("MIT", True), ("MIT AND ISC", True), ("(MIT OR ISC)", True), ("MIT AND GPL-3.0", False), ("GPL-3.0", False)],
)
def test_every_licence_that_is_named_must_be_allowed(licence: str, *, is_right: bool) -> None:
    assert is_allowed(licence, ("MIT", "ISC"), allows_unknown=True) is is_right


def test_a_list_of_opt_outs_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    assert read_opt_outs(None) == ()
    with pytest.raises(DataError, match="which cannot be read; name a text file with one name per line"):
        read_opt_outs(tmp_path / "none.txt")


def test_sources_have_rights_of_their_own(tmp_path: Path) -> None:
    rights = Rights.model_validate({
        "licences": ["MIT"],
        "by_source": {"issues": {"licences": None}, "posts": {"licences": ["CC-BY-SA-4.0"], "allows_unknown": True}},
    })  # fmt: skip
    rows = [(source, licence) for source in ("code", "issues", "posts") for licence in ("MIT", "CC BY-SA 4.0", None)]
    table = daft.from_pydict({"source": [one for one, _ in rows], "licence": [one for _, one in rows]})

    ((reason, refused),) = judge_rights(rights)
    verdicts = table.select(refused.alias("refused")).to_pydict()["refused"]

    assert reason == "licence"
    assert verdicts == [False, True, True, False, False, False, True, False, False]


@pytest.mark.parametrize("licence", ["cc by-sa 4.0", "CC-BY-SA-4.0", " (CC BY-SA  4.0)", "CC_BY-SA_4.0 WITH x"])
def test_licences_are_spelled_in_many_ways(licence: str) -> None:
    assert is_allowed(licence, ("CC BY-SA 4.0",), allows_unknown=False)
    assert not is_allowed(licence, ("CC-BY-4.0",), allows_unknown=False)
