"""A small server on loopback that speaks the part of the Hub's protocol which a push and a download need."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """What the server holds: one commit a repository, files by path, large ones by their hash."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.commits = 0

    def commit_id(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode(), usedforsecurity=False).hexdigest()


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

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values.get('organization') or 'me'}/{values['name']}"
            self.hub.repositories.setdefault(name, {})
            self.hub.private[name] = values.get("private", values.get("visibility") == "private")
            self.reply(200, {"url": f"{self.address}/{name}", "name": name, "id": name})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
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
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.address}/blobs/{item['oid']}", "header": {}}}
            self.reply(200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").split("/commit/")[0]
            files = dict(self.hub.repositories[name])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    files[entry["value"]["path"]] = self.hub.blobs[entry["value"]["oid"]]
            self.hub.repositories[name] = files
            self.hub.commits += 1
            oid = self.hub.commit_id(name)
            self.reply(
                200,
                {
                    "success": True,
                    "commitOid": oid,
                    "commitUrl": f"{self.address}/{name}/commit/{oid}",
                    "hookOutput": "",
                },
            )
        else:
            self.reply(200, {})

    def do_PUT(self) -> None:
        oid, data = self.path.rsplit("/", 1)[1], self.body()
        if hashlib.sha256(data).hexdigest() != oid:
            self.reply(400, {"error": "the content is not what its hash says"})
            return
        self.hub.blobs[oid] = data
        self.reply(200, {})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            if name not in self.hub.repositories:
                self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif "/tree/" in path:
                files = self.hub.repositories[name]
                self.reply(
                    200, [{"type": "file", "path": key, "size": len(value), "oid": "0"} for key, value in files.items()]
                )
            else:
                names = [{"rfilename": key} for key in self.hub.repositories[name]]
                self.reply(200, {"id": name, "sha": self.hub.commit_id(name), "siblings": names, "private": True})
        elif "/resolve/" in path:
            name, rest = path[1:].split("/resolve/")
            file = rest.split("/", 1)[1]
            data = self.hub.repositories.get(name, {}).get(file)
            commit = self.hub.commit_id(name) if name in self.hub.repositories else ""
            if data is None:
                self.reply(
                    404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
                )
            else:
                self.reply(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit})
        else:
            self.reply(404, {"error": "no such place"})

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def serve_hub() -> Iterator[tuple[Hub, str]]:
    """Runs the server while the block lasts."""
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
