"""A stand-in for an OpenAI-compatible endpoint, in a thread, which misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    """What is sent back: a status, headers and a body; or a way of not answering."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent instead of the body as JSON."""
    cut: bool = False
    """The connection ends half-way through the body."""
    silent: bool = False
    """Nothing is sent, until the server ends."""


def chat_reply(text: Any, **message: Any) -> Reply:
    """A reply of /chat/completions."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    return Reply({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


def completion_reply(*texts: str) -> Reply:
    """A reply of /completions with so many samples."""
    choices = [
        {"index": index, "text": text, "finish_reason": "stop", "logprobs": None}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 2 * len(texts), "total_tokens": 9}
    return Reply({"id": "1", "object": "text_completion", "choices": choices, "usage": usage})


class StandIn:
    """The running server: what it was asked, and what it answers."""

    def __init__(self, answer: Callable[[str, Body], Reply], models: list[str]) -> None:
        self.answer = answer
        self.models = models
        self.requests: list[tuple[str, Body]] = []
        """Path and body of every POST."""
        self.keys: list[str | None] = []
        """The Authorization header of every request."""
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def endpoint(
    answer: Callable[[str, Body], Reply], models: list[str] | None = None
) -> Iterator[StandIn]:
    """Run a server on a free port of this machine until the block ends.

    Args:
        answer: path and body of a request → reply; called in the order of arrival.
        models: what /v1/models lists.
    """
    stand_in = StandIn(answer, ["judge"] if models is None else models)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stand_in.keys.append(self.headers.get("Authorization"))
            listed = {"object": "list", "data": [{"id": one} for one in stand_in.models]}
            self._send(Reply(listed))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stand_in.lock:
                stand_in.keys.append(self.headers.get("Authorization"))
                stand_in.requests.append((self.path, body))
                reply = stand_in.answer(self.path, body)
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            if reply.silent:
                stand_in.ended.wait()
                self.close_connection = True
                return
            raw = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw[: len(raw) // 2] if reply.cut else raw)
            if reply.cut:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
