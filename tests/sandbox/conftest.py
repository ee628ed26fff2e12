"""A sandbox on every backend."""

from collections.abc import Iterator

import pytest

from codeshell_hf.sandbox import Sandbox, open_sandbox
from tests.backends import ISOLATING, LIMITS, leave_linux, mark_backend


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("none", marks=mark_backend("none")),
        pytest.param("none, as elsewhere", marks=pytest.mark.slow),
        *(pytest.param(backend, marks=mark_backend(backend)) for backend in ISOLATING),
    ],
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    backend, _, is_elsewhere = request.param.partition(", ")
    with pytest.MonkeyPatch.context() as patch:
        if is_elsewhere:
            leave_linux(patch)
        with open_sandbox(backend, LIMITS) as opened:
            yield opened
