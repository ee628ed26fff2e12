"""Where and when an output was made: the date, the device, the repository and commit of the code."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from .processors import count_usable_cpus

DISTRIBUTION = "codeshell-hf"
CPU_INFO = Path("/proc/cpuinfo")


def describe_origin(commit: str | None) -> dict[str, str | None]:
    """The date in UTC, the device of all ranks, this package's repository, and the `commit` as it was at the start."""
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"date": date, "device": name_device(), "repository": find_repository(), "commit": commit}


def name_device() -> str:
    """Names what computes, such as "8 x NVIDIA H100 80GB HBM3", or a processor and how many of it may be used."""
    torch = sys.modules.get("torch")  # a stage without it computes on processors
    if torch is not None and torch.cuda.is_available():
        return f"{os.environ.get('WORLD_SIZE', '1')} x {torch.cuda.get_device_name()}"
    count = count_usable_cpus()
    return f"{name_processor()}, {count} core{'s' if count > 1 else ''}"


def name_processor() -> str:
    """The processor's name; its architecture where the system does not tell."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def find_repository() -> str | None:
    """The address of this package's repository, by its metadata; `None` where it is not installed."""
    try:
        urls = importlib.metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Repository")


def find_commit(package: Path | None = None) -> str | None:
    """The commit of the code that runs, with "-modified" if its checkout has changes.

    `None` for a wheel of a release, which its version names. `package` is this package's folder.
    """
    root = package.parents[1] if package else Path(__file__).parents[2]
    if not ((root / "pyproject.toml").is_file() and (root / ".git").exists()):
        return _find_installed_commit()
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a hook
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, env=clean)
    except (OSError, subprocess.TimeoutExpired):  # there is no git, or it waits
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _find_installed_commit() -> str | None:
    """The commit that pip installed from (PEP 610), if it did from a repository."""
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    return commit if isinstance(commit, str) else None
