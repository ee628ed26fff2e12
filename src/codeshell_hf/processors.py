"""How many processors this process may use."""

import os


def count_usable_cpus() -> int:
    """Counts the processors that this process may run on.

    Returns:
        Those of its affinity where the system knows of one, else all; at least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
