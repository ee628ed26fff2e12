"""On a Ray cluster of two nodes the recipe gives the same bytes, also when a node dies in the middle."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.xdist_group("ray"),
]
SETTINGS = """
output: {home}/{name}
cache: {home}/{name}.measured
sources: [{{name: here, path: {home}/in}}]
engine: {{part_bytes: 30000}}
perplexity: {{order: 2, sample_bytes: 100000}}
"""


@dataclass
class Cluster:
    """Two nodes on loopback, one core each."""

    address: str
    nodes: list[subprocess.Popen]
    environment: dict[str, str]

    def kill_second(self) -> None:
        """Ends the second node and all that runs on it, at once."""
        os.killpg(self.nodes[1].pid, signal.SIGKILL)
        self.nodes[1].wait()


def start_node(environment: dict[str, str], log: Path, *options: str) -> subprocess.Popen:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    with log.open("w") as out:
        return subprocess.Popen([*command, *options], env=environment, stdout=out, stderr=out, start_new_session=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = Path(os.environ.get("TMPDIR", "/tmp")) / f"ray-{port}"  # noqa: S108 - Ray's sockets need a short path
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    place.mkdir()
    address = f"127.0.0.1:{port}"
    small = ["--object-store-memory=200000000", "--node-ip-address=127.0.0.1"]
    head = [f"--port={port}", "--head", "--include-dashboard=false", f"--temp-dir={place}", *small]
    nodes = [start_node(environment, tmp_path / "head.log", *head)]
    try:
        wait_until(lambda: can_connect(port), 60)
        nodes.append(start_node(environment, tmp_path / "second.log", f"--address={address}", *small))
        yield Cluster(address, nodes, environment)
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()
        shutil.rmtree(place, ignore_errors=True)


def can_connect(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def start_recipe(home: Path, name: str, environment: dict[str, str], *options: str) -> subprocess.Popen:
    settings = home / f"{name}.yaml"
    settings.write_text(SETTINGS.format(home=home, name=name))
    return subprocess.Popen(
        [sys.executable, "-m", "recipes.curate", str(settings), *options],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def read_output(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_two_nodes_give_the_same_bytes_even_if_one_dies(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "codeshell_hf", tmp_path / "in", ignore=shutil.ignore_patterns("__pycache__"))
    local = start_recipe(tmp_path, "local", dict(os.environ))
    output, _ = local.communicate(timeout=300)
    assert local.returncode == 0, output
    ray = ("engine.runner=ray", f"engine.address={cluster.address}")
    measured = tmp_path / "broken.measured" / "measured"

    broken = start_recipe(tmp_path, "broken", cluster.environment, *ray)
    wait_until(lambda: len(list(measured.glob("*.parquet"))) >= 2 or broken.poll() is not None, 120)
    assert broken.poll() is None, broken.communicate()[0]
    cluster.kill_second()
    try:
        output, _ = broken.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        broken.kill()
        output, _ = broken.communicate()
        raise AssertionError(f"it hangs: {output[-2000:]}") from None
    kept = {path.name: path.stat().st_mtime_ns for path in measured.glob("*.parquet")}
    if broken.returncode != 0:
        # One clear failure, and the run goes on where it stopped.
        assert "Traceback" not in output, output
        assert "curate: error: a worker process died" in output
        again = start_recipe(tmp_path, "broken", cluster.environment, *ray)
        output, _ = again.communicate(timeout=240)
        assert again.returncode == 0, output

    assert read_output(tmp_path / "broken") == read_output(tmp_path / "local")
    now = {path.name: path.stat().st_mtime_ns for path in measured.glob("*.parquet")}
    assert kept.items() <= now.items(), "what was measured before the failure was not measured again"
    counts = json.loads((tmp_path / "broken" / "funnel.json").read_text())
    assert counts["documents_before"] == counts["documents_after"] + sum(counts["dropped"].values())
