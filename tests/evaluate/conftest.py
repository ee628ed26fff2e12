"""A sandbox that shows the toolchains."""

from collections.abc import Iterator

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.toolchains import list_shown
from codeshell_hf.sandbox import Limits, Sandbox, open_sandbox


def open_best() -> Sandbox:
    try:
        return open_sandbox("auto", Limits(timeout_s=2.0), shown=list_shown())
    except SettingsError:
        return open_sandbox("none", Limits(timeout_s=2.0))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with open_best() as opened:
        yield opened
