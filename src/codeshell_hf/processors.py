"""How many processors this process may really use, which on a shared or contained machine is fewer than it has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/")  # where /proc and /sys are


def count_usable_cpus() -> int:
    """Counts the processors that this process and those that it starts may use together.

    Returns:
        The fewest of: those that the machine has, those that the scheduler may place this process on, and the quota of
        its control groups rounded up; at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux's own
    placed = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = find_quota()
    return max(1, placed if quota is None else min(placed, -int(-quota // 1)))


def count_threads() -> int:
    """Counts the threads that arithmetic in this process may take.

    Returns:
        This rank's share of the usable processors among the ranks that a launcher started on this machine, and no more
        than `OMP_NUM_THREADS`, if a person set it.
    """
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    share = max(1, count_usable_cpus() // max(1, ranks))
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not asked.isdigit() or int(asked) < 1 or _is_torchruns_own(asked):
        return share
    return min(share, int(asked))


def set_threads(processes: int = 1) -> int:
    """Has torch compute with the threads that are this process's to take.

    Args:
        processes: How many such processes work side by side and share them.

    Returns:
        How many threads those are.
    """
    import torch

    threads = max(1, count_threads() // max(1, processes))
    torch.set_num_threads(threads)
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Has torch compute with one thread for a while."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def find_quota() -> float | None:
    """Finds the tightest limit on processor time among this process's control groups and those that they lie in.

    Returns:
        Processors, such as 1.5, or `None` where nothing is limited or there are no control groups.
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
            # In a container, the path is the host's, and what is mounted is the group itself.
            groups = [ROOT / mount / place.strip("/"), ROOT / mount]
            limits += [limit for group in groups for limit in _read_limits(group, ROOT / mount)]
    return min(limits, default=None)


def _read_limits(group: Path, mount: Path) -> list[float]:
    """The limits of a group and of all above it, up to where control groups are mounted."""
    limits = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            break
        quota, period = _read_limit(folder)
        if quota > 0 and period > 0:
            limits.append(quota / period)
    return limits


def _read_limit(folder: Path) -> tuple[float, float]:
    """Quota and period of a group, in microseconds, of version 2 or version 1; not positive where there is none."""
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
    """Whether the 1 in OMP_NUM_THREADS is torchrun's, which writes it for several ranks where nobody set another."""
    if asked != "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    try:
        launcher = (ROOT / "proc" / str(os.getppid()) / "environ").read_bytes()
    except OSError:
        return False
    return not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in launcher.split(b"\0"))
