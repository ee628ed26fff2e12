"""The card is filled from manifests, and refuses figures that nobody measured."""

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.publish.card import fill_template


def test_templates_refuse_figures_that_nobody_measured() -> None:
    assert fill_template("{{ a }}", {"a": 1}, source="x") == "1"
    with pytest.raises(DataError, match=r"x cannot be filled .*'b' is undefined.*; run the stage that measures it"):
        fill_template("{{ b }}", {"a": 1}, source="x")
