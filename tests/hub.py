"""A small server on loopback that speaks the part of the Hub's protocol which pushes and downloads need."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

Files = dict[str, bytes]
KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass
class Repository:
    """Branches and pull requests by name, each with its files."""

    private: bool
    branches: dict[str, Files] = field(default_factory=lambda: {"main": {}})

    def commit_id(self, revision: str) -> str:
        return hashlib.sha1(repr(sorted(self.branches[revision].items())).encode(), usedforsecurity=False).hexdigest()

    def find(self, revision: str) -> Files | None:
        if revision in self.branches:
            return self.branches[revision]
        return next((self.branches[name] for name in self.branches if self.commit_id(name) == revision), None)


@dataclass
class Hub:
    """What the server holds, what it was sent, and when it fails."""

    stores: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0
    uploads: int = 0
    fails_after_uploads: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, files: Files) -> None:
        """Puts a repository there, as if somebody had pushed it."""
        self.stores[name] = Repository(private=False, branches={"main": files})

    @property
    def repositories(self) -> dict[str, Files]:
        """The files of each repository's main branch; those of data sets are under `datasets/`."""
        return {name: store.branches["main"] for name, store in self.stores.items()}

    @property
    def private(self) -> dict[str, bool]:
        return {name: store.private for name, store in self.stores.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Stays silent."""

    def reply(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def address(self) -> str:
        return f"http://{self.headers['Host']}"

    def split(self) -> tuple[str, list[str]]:
        """The repository that an address under `/api/` names, and the rest of it."""
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[2:]]
        return KINDS[parts[0]] + "/".join(parts[1:3]), parts[3:]

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self.body()
        if path == "/api/repos/create":
            values = json.loads(body)
            kind = values.get("type") or "model"
            name = KINDS[f"{kind}s"] + f"{values.get('organization') or 'me'}/{values['name']}"
            is_private = values.get("private", values.get("visibility") == "private")
            if name in self.hub.stores:
                self.reply(409, {"error": "You already created this repo", "url": f"{self.address}/{name}"})
                return
            self.hub.stores[name] = Repository(private=bool(is_private))
            self.reply(200, {"url": f"{self.address}/{name}", "name": name, "id": name})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                if item["oid"] not in self.hub.blobs:
                    item["actions"] = {"upload": {"href": f"{self.address}/blobs/{item['oid']}", "header": {}}}
            self.reply(200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})
        elif not path.startswith("/api/") or path.split("/")[2] not in KINDS:
            self.reply(200, {})
        else:
            name, rest = self.split()
            store = self.hub.stores.get(name)
            if store is None:
                self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif rest[0] == "preupload":
                self.preupload(json.loads(body)["files"])
            elif rest[0] == "branch":
                if rest[1] in store.branches:
                    self.reply(409, {"error": "Reference already exists"})
                else:
                    store.branches[rest[1]] = dict(store.branches["main"])
                    self.reply(200, {})
            elif rest[0] == "commit":
                self.commit(name, store, rest[1], body)
            else:
                self.reply(200, {})

    def preupload(self, files: list[dict[str, Any]]) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > 100_000 else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in files
        ]
        self.reply(200, {"files": modes})

    def commit(self, name: str, store: Repository, revision: str, body: bytes) -> None:
        if revision not in store.branches:
            self.reply(404, {"error": "no such branch"}, {"X-Error-Code": "RevisionNotFound"})
            return
        files = dict(store.branches[revision])
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.blobs[entry["value"]["oid"]]
            elif entry["key"] == "deletedFile":
                del files[entry["value"]["path"]]
        answer = {"success": True, "hookOutput": ""}
        if parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"]:
            revision = f"refs/pr/{len(store.branches)}"
            answer["pullRequestUrl"] = f"{self.address}/{name}/discussions/{len(store.branches)}"
        store.branches[revision] = files
        self.hub.commits += 1
        oid = store.commit_id(revision)
        self.reply(200, {**answer, "commitOid": oid, "commitUrl": f"{self.address}/{name}/commit/{oid}"})

    def do_PUT(self) -> None:
        oid, data = self.path.rsplit("/", 1)[1], self.body()
        with self.hub.lock:
            is_cut = self.hub.fails_after_uploads is not None and self.hub.uploads >= self.hub.fails_after_uploads
            is_whole = hashlib.sha256(data).hexdigest() == oid
            if is_whole and not is_cut:
                self.hub.blobs[oid] = data
                self.hub.uploads += 1
        if is_cut:
            self.reply(403, {"error": "the line is cut"})
        elif not is_whole:
            self.reply(400, {"error": "the content is not what its hash says"})
        else:
            self.reply(200, {})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/") and path.split("/")[2] in KINDS:
            name, rest = self.split()
            self.describe(name, rest)
        elif "/resolve/" in path:
            name, rest_of_path = path[1:].split("/resolve/")
            store = self.hub.stores.get(name)
            revision, _, file = rest_of_path.partition("/")
            files = store.find(revision) if store else None
            if files is None or file not in files or store is None:
                code = "EntryNotFound" if files is not None else "RevisionNotFound"
                self.reply(404, {"error": "not found"}, {"X-Error-Code": code, "X-Repo-Commit": revision})
                return
            commit = revision if revision not in store.branches else store.commit_id(revision)
            data = files[file]
            self.reply(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit})
        else:
            self.reply(404, {"error": "no such place"})

    def describe(self, name: str, rest: list[str]) -> None:
        store = self.hub.stores.get(name)
        revision = rest[1] if len(rest) > 1 else "main"
        files = store.find(revision) if store else None
        if store is None:
            self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif files is None:
            self.reply(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] == ["tree"]:
            folder = "/".join(rest[2:])
            is_deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
            entries: dict[str, dict[str, Any]] = {}
            for key, value in files.items():
                if folder and not key.startswith(f"{folder}/"):
                    continue
                inner = key.removeprefix(f"{folder}/") if folder else key
                steps = inner.split("/")
                for depth in range(1, len(steps)):
                    place = "/".join([*([folder] if folder else []), *steps[:depth]])
                    if depth == 1 or is_deep:
                        entries[place] = {"type": "directory", "path": place, "oid": "0", "size": 0}
                if len(steps) == 1 or is_deep:
                    entries[key] = {"type": "file", "path": key, "size": len(value), "oid": "0"}
            self.reply(200, list(entries.values()))
        else:
            commit = revision if revision not in store.branches else store.commit_id(revision)
            names = [{"rfilename": key} for key in files]
            self.reply(200, {"id": name.removeprefix("datasets/"), "sha": commit, "siblings": names, "private": True})

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def serve_hub() -> Iterator[tuple[Hub, str]]:
    """Starts a hub on a free port of loopback.

    Yields:
        What it holds, and its address.
    """
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def visit_hub(address: str, home: Path) -> dict[str, str]:
    """The environment of a process that takes the server for the Hub.

    Args:
        address: The server's.
        home: Its cache.

    Returns:
        Variables.
    """
    return {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_test",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


def visit_here(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process take the server for the Hub; its client reads these when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
