"""The messages between a worker's owner and its box: fixed headers, then text."""

from __future__ import annotations

import json
import struct
from typing import Any, Protocol

# form, number, seconds, lengths of: settings (JSON), candidate, tests
REQUEST = struct.Struct("<BQdIII")
# number, outcome, wall seconds, CPU seconds, peak bytes, length of the detail
REPLY = struct.Struct("<QBddQI")
LENGTH = struct.Struct("<I")

FAST, STRICT = 1, 2

PASSED, FAILED, TIMEOUT, MEMORY, REFUSED, UNSUPPORTED = range(6)
OUTCOMES = ("passed", "failed", "timeout", "memory", "refused", "unsupported")

LAST = 128  # added to an outcome if the box ends by itself after this answer

DETAIL_BYTES = 600


class Stream(Protocol):
    """The methods of a socket that this module needs."""

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`."""


def receive(stream: Stream, size: int) -> bytes:
    """Return exactly `size` bytes.

    Raises:
        EOFError: the other side is gone.
    """
    parts = []
    while size:
        part = stream.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_json(stream: Stream, most: int = 1 << 26) -> Any:
    """Return the next JSON message.

    Raises:
        EOFError: the other side is gone.
        ValueError: not JSON, or longer than `most` bytes.
    """
    (size,) = LENGTH.unpack(receive(stream, LENGTH.size))
    if size > most:
        raise ValueError("a message too long")
    return json.loads(receive(stream, size))


def send_json(stream: Stream, value: Any) -> None:
    """Send `value` as one JSON message."""
    data = json.dumps(value).encode()
    stream.sendall(LENGTH.pack(len(data)) + data)


def text_bytes(text: str) -> bytes:
    """Return a program's text as bytes; lone surrogates survive."""
    return text.encode("utf-8", "surrogatepass")


def bytes_text(data: bytes) -> str:
    """Return the text from the bytes of `text_bytes`."""
    return data.decode("utf-8", "surrogatepass")
