"""The backends of the sandbox on the machine that runs the tests."""

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.sandbox import Backend, Limits, backends, open_sandbox, pool

LIMITS = Limits(timeout_s=1.5, max_memory_bytes=256 << 20, max_processes=12, max_file_bytes=4 << 20, max_files=200)
ISOLATING: tuple[Backend, ...] = ("namespaces", "bubblewrap")


def isolates(backend: Backend) -> bool:
    try:
        open_sandbox(backend, LIMITS, workers=1).close()
    except SettingsError:
        return False
    return True


HERE = [backend for backend in ISOLATING if isolates(backend)]
BACKEND: Backend = "auto" if HERE else "none"
BEST: Backend = HERE[0] if HERE else "none"


def mark_backend(backend: Backend) -> list[pytest.MarkDecorator]:
    """Skips where a backend is missing; all but the best are slow."""
    skip = pytest.mark.skipif(
        backend in ISOLATING and backend not in HERE, reason=f"this machine does not isolate programs by {backend}"
    )
    return [skip] if backend == BEST else [skip, pytest.mark.slow]


def leave_linux(patch: pytest.MonkeyPatch) -> None:
    for module in (pool, backends):
        patch.setattr(module, "IS_LINUX", False)
