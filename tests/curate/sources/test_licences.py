"""Licences by their text."""

from pathlib import Path

from codeshell_hf.curate.sources.licences import PERMISSIVE, name_licence


def test_licences_are_named_by_their_text() -> None:
    root = Path(__file__).parents[3]

    assert name_licence((root / "LICENSE").read_text()) == "Apache-2.0"
    assert name_licence("All rights reserved.") is None
    assert "GPL-3.0" not in PERMISSIVE
