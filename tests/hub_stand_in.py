"""A model hub of one's own: an HTTP server on this machine that keeps what is uploaded to it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_stand_in"


class Hub(ThreadingHTTPServer):
    """Repositories by id, each a list of commits; a commit is its message with its files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.failing = False
        """Whether commits are answered with an error, as by a hub that is down."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repository: str) -> dict[str, bytes]:
        """Return the files of a repository as its commits leave them."""
        found: dict[str, bytes] = {}
        for _, files in self.repositories[repository]:
            found |= files
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            self._answer({"name": "me", "type": "user", "orgs": []})
            return
        found = re.match(r"/api/models/(.+?)/revision/", self.path)
        if found and unquote(found[1]) in self.server.repositories:
            self._answer({"id": found[1], "sha": "0" * 40, "siblings": [], "tags": []})
            return
        self._answer({"error": f"not found: {self.path}"}, 404)

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = name in self.server.repositories
            self.server.repositories.setdefault(name, [])
            answer = {"url": f"{self.server.url}/{name}", "id": name, "name": name}
            self._answer(answer, 409 if known else 200)
            return
        if self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
            return
        found = re.fullmatch(r"/api/models/(.+?)/(preupload|commit)/([^/?]+).*", self.path)
        if not found or self.server.failing:
            self._answer({"error": "Internal error"}, 500 if self.server.failing else 404)
            return
        repository = unquote(found[1])
        if found[2] == "preupload":
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                           for f in files]}
            )  # fmt: skip
            return
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        message = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        self.server.repositories[repository].append((message, files))
        self._answer(
            {"success": True, "commitOid": "0" * 40,
             "commitUrl": f"{self.server.url}/{repository}/commit/{'0' * 40}"}
        )  # fmt: skip


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a hub until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
