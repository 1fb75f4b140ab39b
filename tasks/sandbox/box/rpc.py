"""Nested calls between the trusted tests and the candidate, in both directions over one socket."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from typing import Any

from .codec import CannotCrossError, Decoder, Encoder, MalformedError, Table
from .wire import LENGTH, Stream, receive_json

_THEIRS = 1_000_000  # first number of containers created by the answering side


class Gone(BaseException):
    """The other side has ended."""


class Undecided(BaseException):
    """The tests need a decision that only the candidate's process could make."""


class Peer:
    """One side of the conversation.

    Args:
        stream: the socket to the other side.
        serve: carries out the other side's request: operation, target, arguments.
        proxy: creates the stand-in for an object of the other side, from its number and kind.
        export_kind: returns the kind that a value is exported as, or raises CannotCrossError.
        named: returns this side's object of a name.
        raised: creates the exception that represents one of the other side.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        serve: Callable[[str, Any, Any], Any],
        proxy: Callable[[int, str], Any],
        export_kind: Callable[[Any], str],
        named: Callable[[str], Any],
        raised: Callable[[dict[str, Any], Any], BaseException],
    ) -> None:
        self.stream = stream
        self._serve = serve
        self._proxy = proxy
        self._export_kind = export_kind
        self._named = named
        self._raised = raised
        # The first reason for which no verdict can be reached; tests that catch everything
        # must not swallow it.
        self.stopped: BaseException | None = None
        self.exports: list[Any] = []
        self._export_numbers: dict[int, int] = {}
        self._proxies: dict[str | int, Any] = {}
        self._targets: dict[int, str | int] = {}

    def stand_in(self, target: str | int, proxy: Any) -> Any:
        """Register `proxy` as the stand-in for the other side's object `target`, and return it."""
        self._proxies[target] = proxy
        self._targets[id(proxy)] = target
        return proxy

    def stop(self, error: BaseException) -> BaseException:
        """Record that no verdict can be reached any more, and return the reason."""
        if self.stopped is None:
            self.stopped = error
        return error

    def request(self, operation: str, target: Any, arguments: Any) -> Any:
        """Request an operation of the other side and return its result.

        Args:
            operation: the operation's name.
            target: the name or number of an object on the other side.
            arguments: the operation's arguments.

        Raises:
            BaseException: the exception raised on the other side, or Gone, or Undecided.
        """
        try:
            return self._request(operation, target, arguments)
        except (Gone, Undecided, MalformedError) as error:
            self.stop(error)
            raise

    def _request(self, operation: str, target: Any, arguments: Any) -> Any:
        table = Table(0)
        try:
            message = Encoder(table, self._out).message(arguments)
            self._send({"q": operation, "n": target, "x": message})
        except (CannotCrossError, RecursionError) as error:
            raise Undecided(f"an argument cannot cross: {error}") from None
        while True:
            answer = self._receive()
            if "q" in answer:
                self._answer(answer)
                continue
            decoder = Decoder(table, self._in)
            if "e" in answer:
                raise self._raised(answer["e"], decoder)
            if "u" in answer:
                raise Undecided(str(answer["u"])[:200])
            try:
                return decoder.value(answer)
            except RecursionError:
                raise Undecided("a value nested too deep to cross") from None

    def serve_for_ever(self) -> None:
        """Answer requests until the other side ends.

        Raises:
            Gone: it has.
        """
        while True:
            self._answer(self._receive())

    def _answer(self, request: dict[str, Any]) -> None:
        table = Table(_THEIRS)
        contents = dict(request["x"]["o"])
        encoder = Encoder(table, self._out)
        try:
            arguments = Decoder(table, self._in).value(request["x"])
            received = list(table.by_number.values())
            value = self._serve(request["q"], request["n"], arguments)
            answer: dict[str, Any] = {"v": encoder.tree(value)}
        except (Gone, Undecided):
            raise
        except (CannotCrossError, RecursionError) as error:
            self._send({"u": f"a value cannot cross: {type(error).__name__} {error}"})
            return
        except BaseException as error:
            answer = {"e": self._describe(error, encoder)}
            received = list(table.by_number.values())
        try:
            for container in received:
                encoder.tree(container)
            answer["o"] = [
                [number, content]
                for number, content in encoder.contents.items()
                if number not in contents or contents[number] != content
            ]
            self._send(answer)
        except (CannotCrossError, RecursionError) as error:
            self._send({"u": f"a value cannot cross: {type(error).__name__} {error}"})

    def _describe(self, error: BaseException, encoder: Encoder) -> dict[str, Any]:
        bases = [
            base.__name__
            for base in type(error).__mro__
            if getattr(builtins, base.__name__, None) is base
        ]
        found: dict[str, Any] = {"name": str(type(error).__name__), "bases": bases, "args": None}
        try:
            found["text"] = str(error)[-2000:]
            if len(found["text"]) < 2000:
                found["args"] = encoder.tree(error.args)
        except Exception:
            found.setdefault("text", "<exception str() failed>")
        return found

    def _out(self, value: Any) -> Any:
        target = self._targets.get(id(value))
        if target is not None:
            return ["o", target]
        known = self._export_numbers.get(id(value))
        if known is None:
            kind = self._export_kind(value)
            known = len(self.exports)
            self.exports.append(value)
            self._export_numbers[id(value)] = known
            return ["h", known, kind]
        return ["h", known, self._export_kind(value)]

    def _in(self, tree: Any) -> Any:
        if tree[0] == "o":
            return self._named(tree[1]) if isinstance(tree[1], str) else self.exports[tree[1]]
        if tree[0] != "h" or type(tree[1]) is not int:
            raise MalformedError("an unknown kind of value")
        number = tree[1]
        if number not in self._proxies:
            self.stand_in(number, self._proxy(number, str(tree[2])))
        return self._proxies[number]

    def _send(self, message: dict[str, Any]) -> None:
        try:
            data = json.dumps(message, separators=(",", ":")).encode()
        except ValueError as error:
            raise CannotCrossError(str(error)) from None
        try:
            self.stream.sendall(LENGTH.pack(len(data)) + data)
        except OSError:
            raise Gone from None

    def _receive(self) -> dict[str, Any]:
        try:
            message = receive_json(self.stream)
        except (EOFError, OSError):
            raise Gone from None
        except RecursionError:
            raise Undecided("a value nested too deep to cross") from None
        except ValueError as error:
            raise MalformedError(str(error)) from None
        if not isinstance(message, dict):
            raise MalformedError("not a message")
        return message
