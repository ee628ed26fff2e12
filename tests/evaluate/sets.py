"""Where the benchmarks of the tests lie."""

from pathlib import Path

import pytest

from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES, Profile
from codeshell_hf.evaluate.tasks import Task

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "recipes" / "nano" / "data" / "benchmarks"
SHARED = ROOT.parent / "shared" / "benchmarks"
requires_shared = pytest.mark.skipif(not SHARED.exists(), reason="the published benchmarks are not ours to ship")


def read(profile: str, name: str) -> tuple[Profile, list[Problem]]:
    found = PROFILES[profile]
    return found, found.choose(read_problems(SMALL / name, found.read))[0]


def make_task(name: str, profile: str) -> Task:
    return Task(name, PROFILES[profile], [], data="", data_hash="")
