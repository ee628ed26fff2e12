"""Counts the processors that this process may use, which may be fewer than the machine has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/")  # where /proc and /sys are


def count_usable_cpus() -> int:
    """The number of processors that this process and its children may use together.

    It is the minimum of the machine's, the CPU affinity's and the control groups' quota, rounded up; at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    placed = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = find_quota()
    return max(1, placed if quota is None else min(placed, -int(-quota // 1)))


def count_threads() -> int:
    """The number of compute threads for this process.

    It is this rank's share of the usable processors among the ranks on this machine, limited by `OMP_NUM_THREADS` if a
    user set it.
    """
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    share = max(1, count_usable_cpus() // max(1, ranks))
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not asked.isdigit() or int(asked) < 1 or _is_torchruns_own(asked):
        return share
    return min(share, int(asked))


def set_threads(processes: int = 1) -> int:
    """Sets and returns torch's number of threads; `processes` such processes share the processors."""
    import torch

    threads = max(1, count_threads() // max(1, processes))
    torch.set_num_threads(threads)
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which torch uses one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def find_quota() -> float | None:
    """The tightest CPU quota of this process's control groups and their parents, in processors, such as 1.5.

    `None` without a quota or without control groups.
    """
    try:
        lines = (ROOT / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        named = controllers.split(",")
        if controllers and "cpu" not in named:
            continue
        mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"] if not controllers else ["sys/fs/cgroup/cpu"]
        mounts += [f"sys/fs/cgroup/{controllers}"] if controllers else []
        for mount in mounts:
            # In a container the path is the host's, and the group itself is mounted.
            groups = [ROOT / mount / place.strip("/"), ROOT / mount]
            limits += [limit for group in groups for limit in _read_limits(group, ROOT / mount)]
    return min(limits, default=None)


def _read_limits(group: Path, mount: Path) -> list[float]:
    """The limits of a group and its parents, up to the mount point."""
    limits = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            break
        quota, period = _read_limit(folder)
        if quota > 0 and period > 0:
            limits.append(quota / period)
    return limits


def _read_limit(folder: Path) -> tuple[float, float]:
    """Quota and period of a group (version 1 or 2) in microseconds; not positive without a quota."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return (-1.0 if quota == "max" else float(quota)), float(period)
    except (OSError, ValueError):
        return -1.0, -1.0


def _is_torchruns_own(asked: str) -> bool:
    """Whether OMP_NUM_THREADS=1 was set by torchrun, which does so for several ranks if it is unset."""
    if asked != "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    try:
        launcher = (ROOT / "proc" / str(os.getppid()) / "environ").read_bytes()
    except OSError:
        return False
    return not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in launcher.split(b"\0"))
