"""Lints Python with ruff, many files per process, since starting one takes 6 ms."""

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Errors and style, unused names, complexity, naming, security, likely bugs.
RULES = "E,F,W,C90,N,S,B"
# Line lengths and line ends are separate signals, and asserts are not a security risk.
IGNORED = "E501,S101,W291,W293,W191,E101"
_FINDING = re.compile(rb"^(\d+)\.py:\d+:\d+: ([A-Z]+|invalid-syntax)", re.MULTILINE)
TIMEOUT_S = 30


@dataclass(frozen=True)
class Standards:
    """The number of ruff's findings in a document: all, and those of security rules."""

    faults: int
    security_faults: int


def lint(texts: Sequence[str]) -> list[Standards | None]:
    """Lints Python files of any version; `None` for those on which ruff fails, and for all if it is not installed.

    Source:
        ruff's rule families E, F, W, C90, N, S and B, without those on the length and ends of lines.
    """
    if not texts or importlib.util.find_spec("ruff") is None:
        return [None] * len(texts)
    found = _run(texts)
    if found is None and len(texts) > 1:  # deeply nested code overflows ruff's stack, for all files of a process
        half = len(texts) // 2
        return [*lint(texts[:half]), *lint(texts[half:])]
    return [None] if found is None else [*found]


def _run(texts: Sequence[str]) -> list[Standards] | None:
    """Runs ruff once; `None` if it crashes or takes too long."""
    from ruff import find_ruff_bin

    with tempfile.TemporaryDirectory(prefix="lint-") as folder:
        for index, text in enumerate(texts):
            Path(folder, f"{index}.py").write_bytes(text.encode("utf-8", errors="replace"))
        command = [find_ruff_bin(), "check", "--isolated", "--no-cache", "--quiet", "--exit-zero"]
        options = ["--output-format", "concise", "--select", RULES, "--ignore", IGNORED]
        try:
            # --ignore-noqa: suppressed findings count too.
            result = subprocess.run(
                [*command, *options, "--ignore-noqa", "."],
                cwd=folder,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (subprocess.TimeoutExpired, PermissionError):
            return None
    if result.returncode != 0:
        return None
    faults, security = [0] * len(texts), [0] * len(texts)
    for index, family in _FINDING.findall(result.stdout):
        faults[int(index)] += 1
        security[int(index)] += family == b"S"
    return [Standards(*pair) for pair in zip(faults, security, strict=True)]
