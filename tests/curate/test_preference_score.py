"""Good code is preferred."""

import ast
from pathlib import Path
from typing import cast

from codeshell_hf.curate.measured_parts import measure_batch
from codeshell_hf.curate.preference_score import Measured, prefer
from codeshell_hf.curate.settings import Measuring
from codeshell_hf.curate.sources import Document


def test_good_code_is_preferred_over_poor_code() -> None:
    good = Path(ast.__file__).with_name("textwrap.py").read_text()
    poor = "import os,sys\n" + "x=1;y=2\n" * 30 + "def f(a):\n  return eval(a)\n"
    documents = [
        ("s", Document(f"{n}.py", "", text.encode(), len(text), "python")) for n, text in enumerate([good, poor])
    ]

    first, second = measure_batch(documents, Measuring(near_duplicates=None))

    scores = [prefer(cast(Measured, row)) for row in (first, second)]
    assert 0 <= scores[1] < 0.6 < scores[0] <= 1
    assert [first["preference"], second["preference"]] == scores
