"""A lock on a stage's output, so that two runs never write one.

The operating system frees `OUTPUT.lock` when the process ends. If its node is lost, a file server does so after a lease
(90 s with NFSv4), or only when that node starts again. So a run waits for a lock. `OUTPUT.lock.json` names the holder,
which touches it every few seconds: that tells a run that lives from one that is lost.
"""

import json
import logging
import math
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from ..errors import RunFailed, SettingsError

if TYPE_CHECKING:
    from filelock import FileLock

logger = logging.getLogger(__name__)

WAIT = "CODESHELL_LOCK_S"  # environment variable: seconds to wait for a lock that another run holds
DEFAULT_WAIT_S = 180.0  # two leases of NFSv4
POLLED_EVERY_S = 1.0
TOUCHED_EVERY_S = 5.0
SILENT_AFTER_S = 60.0  # without a touch, a run of the same Slurm job counts as lost


# Shown to people, so without control characters.
Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.: -]{0,255}$")]


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Args:
        host: Its machine.
        process: Its id there.
        since: Date and time, for people.
        job: Slurm's job, empty without Slurm.
        restarts: How often Slurm had requeued the job.
        token: Tells it from all others.
    """

    host: Name
    process: int
    since: Name
    job: Name
    restarts: int
    token: Name

    def was_requeued_as(self, later: "Holder") -> bool:
        """Whether Slurm has ended this run and started a later one of the same job in its place."""
        return bool(self.job) and self.job == later.job and self.restarts < later.restarts


_HOLDERS = pydantic.TypeAdapter(Holder)


@contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Holds `OUTPUT.lock`, which the system releases if the process is killed, and removes it afterwards.

    Raises:
        SettingsError: If another run still holds it after `$CODESHELL_LOCK_S` seconds.
    """
    from filelock import FileLock

    wait_s = read_wait(os.environ)
    path = output.with_name(f"{output.name}.lock")
    record = output.with_name(f"{path.name}.json")
    own = describe_process(os.environ)
    # A soft lock, which is a file that exists, would outlive a killed process.
    lock = FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, output, record, own, wait_s)
    except OSError as error:  # no flock there, or no permission: the stage itself tells where it cannot write
        logger.warning("%s cannot be locked (%s); make sure that no other run writes %s", path, error, output)
        yield
        return
    try:
        with _keep_record(record, own, output):
            yield
    finally:
        if read_holder(record)[0] in (own, None):
            for one in (record, path):
                with suppress(OSError):  # Windows removes no open file
                    one.unlink()
        lock.release()


def read_wait(environment: Mapping[str, str]) -> float:
    """Seconds to wait for a lock.

    Raises:
        SettingsError: If the variable is no such number.
    """
    text = environment.get(WAIT, str(DEFAULT_WAIT_S))
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise SettingsError(
        f"{WAIT} is {text!r} and must be a number of seconds, such as {DEFAULT_WAIT_S:.0f}; 0 does not wait"
    )


def describe_process(environment: Mapping[str, str]) -> Holder:
    """This process, as it will hold the lock."""
    restarts = environment.get("SLURM_RESTART_COUNT", "")  # absent until the first
    return Holder(
        host=platform.node(),
        process=os.getpid(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        job=environment.get("SLURM_JOB_ID", ""),
        restarts=int(restarts) if restarts.isdecimal() else 0,
        token=uuid.uuid4().hex,
    )


def read_holder(record: Path) -> tuple[Holder | None, int]:
    """Reads who holds a lock, `None` if the record does not say, and when it was last touched, in ns."""
    try:
        with record.open("rb") as file:  # opened, since NFS may have old times of a closed file
            touched, text = os.fstat(file.fileno()).st_mtime_ns, file.read(4096)
        return _HOLDERS.validate_json(text, strict=True), touched
    except (OSError, ValueError):
        return None, 0


def _acquire(lock: "FileLock", output: Path, record: Path, own: Holder, wait_s: float) -> None:
    from filelock import Timeout

    path = output.with_name(f"{output.name}.lock")
    started = heard = time.monotonic()
    last = None
    while True:
        try:
            lock.acquire()
        except Timeout:
            pass
        else:
            return
        now, seen = time.monotonic(), read_holder(record)
        if last is None and wait_s:
            logger.warning("%s is locked by %s; waits up to %.0f s for it to end", output, _name(seen[0]), wait_s)
        if last != seen:
            last, heard = seen, now
        holder, silent_s = seen[0], now - heard
        if holder is not None and holder.was_requeued_as(own) and silent_s >= SILENT_AFTER_S:
            logger.warning(
                "takes %s over from %s, the run before Slurm requeued job %s: it gave no sign of life for %.0f s",
                output, _name(holder), own.job, silent_s,
            )  # fmt: skip
            with suppress(OSError):
                path.unlink()  # whose lock a file server keeps; a new file has a lock of its own
            heard = now
        elif now - started >= wait_s:
            raise SettingsError(_explain(output, holder, now - started, is_silent=silent_s > 2 * TOUCHED_EVERY_S))
        else:
            time.sleep(min(POLLED_EVERY_S, max(started + wait_s - now, 0.01)))


def _name(holder: Holder | None) -> str:
    return f"process {holder.process} on {holder.host}" if holder else "another run"


def _explain(output: Path, holder: Holder | None, waited_s: float, *, is_silent: bool) -> str:
    path = output.with_name(f"{output.name}.lock")
    waited = f"; waited {waited_s:.0f} s ({WAIT})" if waited_s >= 1 else ""
    if holder is None or not is_silent:
        since = f" since {holder.since}" if holder else ""
        return (
            f"{output} is being written by {_name(holder)}{since}, which holds {path}{waited}; wait until it ends, or "
            "set output to another folder"
        )
    return (
        f"{output} is locked by {_name(holder)}, which gave no sign of life{waited}; if `ps -p {holder.process}` on "
        f"{holder.host} still shows it, end it; if not, or if that machine is lost, remove {path} and run again"
    )


@contextmanager
def _keep_record(record: Path, own: Holder, output: Path) -> Iterator[None]:
    """Writes who holds the lock, touches it until the end, and ends this process if another has taken the lock."""
    ended = threading.Event()

    def write() -> None:
        with suppress(OSError):  # the lock itself holds without it
            record.write_text(json.dumps(asdict(own)), encoding="utf-8")

    def touch() -> None:
        while not ended.wait(TOUCHED_EVERY_S):
            holder, _ = read_holder(record)
            if holder is None:  # removed
                write()
            elif holder == own:
                with suppress(OSError):
                    os.utime(record)
            else:
                logger.critical("%s was taken over by %s; this run ends, and writes no more", output, _name(holder))
                os._exit(RunFailed.exit_code)

    write()
    thread = threading.Thread(target=touch, name=f"lock of {output.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
