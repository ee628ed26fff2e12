"""A lock on a stage's output, so that two runs never write one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import SettingsError

logger = logging.getLogger(__name__)


@contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Holds `OUTPUT.lock`, which the system releases if the process is killed, and removes it afterwards.

    Raises:
        SettingsError: If another run holds it.
    """
    from filelock import FileLock, Timeout

    path = output.with_name(f"{output.name}.lock")
    # A soft lock, which is a file that exists, would outlive a killed process.
    lock = FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise SettingsError(
            f"{output} is being written by another run, which holds {path}; wait until it ends, or set output to "
            "another folder"
        ) from error
    except OSError as error:  # no flock there, or no permission: the stage itself tells where it cannot write
        logger.warning("%s cannot be locked (%s); make sure that no other run writes %s", path, error, output)
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        lock.release()
