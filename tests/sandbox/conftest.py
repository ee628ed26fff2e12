"""A sandbox on every rung."""

from collections.abc import Iterator

import pytest

from codeshell_hf.sandbox import Sandbox, open_sandbox
from tests.rungs import ISOLATING, LIMITS, leave_linux, mark_rung


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("none", marks=mark_rung("none")),
        pytest.param("none, as elsewhere", marks=pytest.mark.slow),
        *(pytest.param(rung, marks=mark_rung(rung)) for rung in ISOLATING),
    ],
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    rung, _, is_elsewhere = request.param.partition(", ")
    with pytest.MonkeyPatch.context() as patch:
        if is_elsewhere:
            leave_linux(patch)
        with open_sandbox(rung, LIMITS) as opened:
            yield opened
