"""Starts the sections' processes, sets their environment, and kills them with all their children."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
GONE_S = 3  # how long to wait for killed processes


def make_environment(carried: Path | None, home: Path, limit_s: float) -> dict[str, str]:
    """The environment of all sections: their import path and shared caches."""
    wheels = sorted((carried / "wheels").glob("*.whl")) if carried else []
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if wheels:
        install(wheels, home / "site", limit_s)
        paths.insert(0, str(home / "site"))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"),
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


def install(wheels: list[Path], site: Path, limit_s: float) -> None:
    """Unpacks wheels into a folder, without network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(site), *map(str, wheels)], check=True, timeout=limit_s)


def run_limited(command: list[str], *, limit_s: float, log: Path, environment: dict[str, str]) -> int | None:
    """Runs a command, killing it and its children at the limit; returns its exit code, or `None` if it was killed."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                end(psutil.Process(process.pid))
                process.wait()


def end(process: psutil.Process) -> None:
    """Kills a process and its children, and waits until their memory is free."""
    family = [process, *process.children(recursive=True)]  # the parent first, so that it starts no others
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    ends = time.monotonic() + GONE_S
    while not all(map(is_over, family)) and time.monotonic() < ends:
        time.sleep(0.02)


def is_over(process: psutil.Process) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
