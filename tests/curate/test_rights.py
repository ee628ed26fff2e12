"""Licences and opt-outs."""

import json
from pathlib import Path

import pytest

from codeshell_hf.curate.rights import is_allowed, read_opt_outs
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
