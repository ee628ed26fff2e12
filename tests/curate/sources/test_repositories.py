"""Lists of repositories."""

import http.server
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeshell_hf.curate.sources import repositories as repositories_module
from codeshell_hf.curate.sources.repositories import find_facts, pick_facts, read_addresses
from codeshell_hf.errors import DataError
from tests.curate.sources.reading import needs_git, read_all


class Host(http.server.BaseHTTPRequestHandler):
    """A git host's interface, as Gitea and GitLab have it."""

    def do_GET(self) -> None:
        answers = {
            "/api/v1/repos/owner/tool": {"stars_count": 7, "licenses": ["Apache-2.0"]},
            "/api/v4/projects/group%2Fother?license=true": {"star_count": 9, "license": {"key": "mit"}},
        }
        answer = answers.get(self.path)
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_hosts_tell_licence_and_stars(host: str) -> None:
    assert find_facts(f"{host}/owner/tool.git") == {"licence": "Apache-2.0", "stars": 7}
    assert find_facts(f"{host}/group/other") == {"licence": "mit", "stars": 9}
    assert find_facts(f"{host}/nobody/none") == {"licence": None, "stars": None}
    assert find_facts("git@example.org:owner/tool.git") == {"licence": None, "stars": None}


@needs_git
def test_a_list_of_repositories_is_cloned_once_and_what_cannot_be_is_named(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = tmp_path / "list.txt"
    addresses.write_text(f"file://{checkout}  # ours\n\nfile://{tmp_path}/nowhere.git\n")
    monkeypatch.setattr(repositories_module, "find_facts", lambda address: {"licence": None, "stars": 42})

    found = read_all("repositories", addresses)

    assert found["s/owner/tool/area.py"].content == (checkout / "area.py").read_bytes()
    assert found["s/owner/tool/area.py"].path == "area.py"
    assert found["s/owner/tool/area.py"].repository == f"file://{checkout}"
    assert found["s/owner/tool/area.py"].stars == 42
    assert found["s/owner/tool/area.py"].licence == "MIT", "where the host says nothing, the licence's text does"
    assert found[f"s/file://{tmp_path}/nowhere.git"].reason == "not-cloned"
    shutil.rmtree(checkout)
    assert read_all("repositories", addresses).keys() == found.keys()


def test_a_list_with_a_line_that_is_no_address_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://example.org/a/b\n--upload-pack=touch\n")
    with pytest.raises(DataError, match=r"'--upload-pack=touch' in .* is not a repository's address; write https://"):
        read_addresses(tmp_path / "list.txt")


@needs_git
def test_repositories_are_cloned_within_bounds_of_size_and_time(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text(f"file://{checkout}\n")
    monkeypatch.setattr(repositories_module, "find_facts", lambda address: {"licence": None, "stars": None})

    (large,) = read_all("repositories", tmp_path / "list.txt", max_clone_bytes=100).values()
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    # Its child keeps the output open, as git's helpers do.
    slow.write_text("#!/bin/sh\nsleep 60 &\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    start_s = time.monotonic()
    (late,) = read_all("repositories", tmp_path / "list.txt", clone_timeout_s=0.2).values()

    assert (large.reason, late.reason) == ("too-large", "not-cloned")
    assert time.monotonic() - start_s < 20
    assert not list((tmp_path / "list.txt.clones").rglob("*.tmp"))


@pytest.mark.parametrize(
    "answer", [{"stargazers_count": "many"}, {"stars_count": 1e999}, {"license": [1]}, {"licenses": [{}]}]
)
def test_a_host_may_answer_anything(answer: dict[str, object]) -> None:
    assert pick_facts(answer) == {"licence": None, "stars": None}
