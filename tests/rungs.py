"""The rungs of the sandbox on the machine that runs the tests."""

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.sandbox import Limits, Rung, open_sandbox, pool, rungs

LIMITS = Limits(timeout_s=1.5, max_memory_bytes=256 << 20, max_processes=12, max_file_bytes=4 << 20, max_files=200)
ISOLATING: tuple[Rung, ...] = ("namespaces", "bubblewrap")


def isolates(rung: Rung) -> bool:
    try:
        open_sandbox(rung, LIMITS, workers=1).close()
    except SettingsError:
        return False
    return True


HERE = [rung for rung in ISOLATING if isolates(rung)]
RUNG: Rung = "auto" if HERE else "none"
BEST: Rung = HERE[0] if HERE else "none"


def mark_rung(rung: Rung) -> list[pytest.MarkDecorator]:
    """Skips where a rung is missing; all but the best are slow."""
    skip = pytest.mark.skipif(
        rung in ISOLATING and rung not in HERE, reason=f"this machine does not isolate programs by {rung}"
    )
    return [skip] if rung == BEST else [skip, pytest.mark.slow]


def leave_linux(patch: pytest.MonkeyPatch) -> None:
    for module in (pool, rungs):
        patch.setattr(module, "IS_LINUX", False)
