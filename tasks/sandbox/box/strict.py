"""The strict form: trusted tests in one process, the candidate in another.

Only the tests' process has the descriptor for the verdict, and it never runs the candidate's code:
functions are called remotely, and values arrive as plain data.
"""

from __future__ import annotations

import builtins
import importlib
import posix
import signal
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

from .codec import CannotCrossError, Decoder, MalformedError
from .fast import CANDIDATE, TESTS, describe
from .remote import Remote, builtin_base
from .rpc import Gone, Peer, Undecided
from .wire import DETAIL_BYTES, Stream

PROMPT = "<prompt>"


# The candidate's side


def run_candidate(candidate: str, stream: Stream) -> NoReturn:
    """Serve the candidate's functions to the tests; never returns.

    Args:
        candidate: the model's program.
        stream: the socket to the tests.
    """
    leave = posix._exit
    try:
        _Candidate(candidate).serve(stream)
    finally:
        leave(0)


class _Candidate:
    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, Any] = {}

    def serve(self, stream: Stream) -> None:
        self.peer = Peer(
            stream,
            serve=self.carry_out,
            proxy=lambda number, kind: _Callback(self.peer, number),
            export_kind=_kind,
            named=self.names.__getitem__,
            raised=lambda found, decoder: builtin_base(found["bases"])(found.get("text", "")),
        )
        try:
            self.peer.serve_for_ever()
        except Gone:
            return

    def carry_out(self, operation: str, target: Any, arguments: Any) -> Any:
        if operation == "load":
            exec(compile(self.text, CANDIDATE, "exec", dont_inherit=True), self.names)
            return {name: _described(self.names[name]) for name in arguments if name in self.names}
        subject = self.names[target] if isinstance(target, str) else self.peer.exports[target]
        if operation == "call":
            positional, named = arguments
            return subject(*positional, **named)
        if operation == "attr":
            return getattr(subject, arguments[0])
        if operation == "set":
            return setattr(subject, *arguments)
        if operation == "item":
            return subject[arguments[0]]
        if operation == "iter":
            return _Walk(iter(subject))
        return _ASKED[operation](subject)


_ASKED: dict[str, Callable[[Any], Any]] = {
    "len": len, "bool": bool, "str": str, "repr": repr, "next": next,
}  # fmt: skip


class _Walk:
    """An iterator that can only be exchanged as a handle."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __next__(self) -> Any:
        return next(self._iterator)


class _Callback:
    """Represents a function of the tests."""

    def __init__(self, peer: Peer, number: int) -> None:
        self._peer, self._number = peer, number

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._peer.request("call", self._number, (args, named))


def _kind(value: Any) -> str:
    return "callable" if callable(value) else "object"


def _described(value: Any) -> Any:
    """Return the description of one of the candidate's names for the tests."""
    if isinstance(value, type(sys)):
        return ("module", value.__name__)
    if isinstance(value, type) and issubclass(value, BaseException):
        return (
            "exception",
            [b.__name__ for b in value.__mro__ if getattr(builtins, b.__name__, None) is b],
        )
    if callable(value) and not (isinstance(value, type) and value.__module__ == "builtins"):
        return ("remote", "")
    return ("value", value)


# The tests' side


def run_tests(
    prompt: str, tests: str, entry_points: list[str], stream: Stream, nonce: bytes, result: int
) -> None:
    """Run the tests against the candidate behind `stream`; never returns.

    Args:
        prompt: trusted text that the tests may take helpers from, or empty.
        tests: trusted code.
        entry_points: names that are always the candidate's, even if the prompt defines them.
        stream: the socket to the candidate.
        nonce: must precede the verdict.
        result: descriptor for the verdict.
    """
    try:
        try:
            verdict = _Tests(prompt, tests, entry_points).judge(stream)
        except BaseException as error:
            verdict = _verdict(error, tests)
        posix.write(result, nonce + verdict)
        signal.pause()  # keeps the candidate as well, until both are measured and killed
    finally:
        posix._exit(0)


def _verdict(error: BaseException, tests: str) -> bytes:
    if isinstance(error, Undecided):
        return b"U" + str(error).encode("utf-8", "backslashreplace")[:DETAIL_BYTES]
    if isinstance(error, Gone):
        return b"Xthe program ended before its tests did"
    if isinstance(error, MalformedError | CannotCrossError):
        return b"Fthe program wrote into the channel to its tests"
    return describe(error, tests)


class _Tests:
    def __init__(self, prompt: str, tests: str, entry_points: list[str]) -> None:
        self.tests = tests
        self.entry_points = entry_points
        self.names: dict[str, Any] = {}
        self.exceptions: dict[str, type[BaseException]] = {}
        if prompt:
            self._trust(prompt)
        self.code = compile(tests, TESTS, "exec", dont_inherit=True)

    def _trust(self, prompt: str) -> None:
        """Run the prompt for its helpers; a prompt that ends within a statement is completed."""
        for text in (prompt, prompt + "\n    pass\n"):
            try:
                code = compile(text, PROMPT, "exec", dont_inherit=True)
            except SyntaxError:
                continue
            exec(code, self.names)
            return

    def judge(self, stream: Stream) -> bytes:
        self.peer = Peer(
            stream,
            serve=self._callback,
            proxy=lambda number, kind: Remote(self.peer, number),
            export_kind=_only_functions,
            named=_nothing_named,
            raised=self._raised,
        )
        wanted = [n for n in _names(self.code) if n not in self.names]
        wanted += self.entry_points
        shadowed = self._bind(self.peer.request("load", "", wanted), frozenset(wanted))
        try:
            exec(self.code, self.names)
        except Exception as error:
            if shadowed and self.peer.stopped is None:
                # The candidate does not replace built-in functions unless they are entry points.
                raise Undecided(f"tests and candidate both have a function {shadowed!r}") from error
            raise
        finally:
            if self.peer.stopped is not None:
                raise self.peer.stopped
        return b"P"

    def _bind(self, found: Any, wanted: frozenset[str]) -> str:
        """Bind the candidate's names; return the name of a redefined builtin, or an empty text."""
        shadowed = ""
        if not isinstance(found, dict) or not wanted.issuperset(found):
            raise MalformedError("other names than were asked for")
        for name, (kind, value) in found.items():
            if hasattr(builtins, name) and name not in self.entry_points:
                shadowed = name
            elif kind == "module":
                self.names[name] = _module(name, value)
            elif kind == "exception":
                self.names[name] = self._exception(name, value)
            elif kind == "value":
                self.names[name] = value
            else:
                self.names[name] = self.peer.stand_in(name, Remote(self.peer, name))
        return shadowed

    def _exception(self, name: str, bases: Any) -> type[BaseException]:
        if name not in self.exceptions:
            base = builtin_base(bases)
            own = base.__name__ == name
            self.exceptions[name] = base if own else type(name, (base,), {})
        return self.exceptions[name]

    def _raised(self, found: dict[str, Any], decoder: Decoder) -> BaseException:
        kind = self._exception(str(found.get("name")), found.get("bases"))
        text = str(found.get("text", ""))
        try:
            arguments = decoder.tree(found["args"]) if found.get("args") else (text,)
            return kind(*arguments)
        except Exception:
            return Exception(text)

    def _callback(self, operation: str, target: Any, arguments: Any) -> Any:
        if operation != "call" or type(target) is not int:
            raise MalformedError("an operation that the tests do not offer")
        positional, named = arguments
        return self.peer.exports[target](*positional, **named)


def _only_functions(value: Any) -> str:
    if callable(value) and not isinstance(value, type):
        return "callable"
    raise CannotCrossError(f"an object of the type {type(value).__name__}")


def _nothing_named(name: str) -> Any:
    raise MalformedError(f"the tests offer nothing called {name!r}")


def _module(name: str, known_as: Any) -> Any:
    """Return the real module of a name that the candidate imported, if it is a library's.

    A name that is a module's own refers only to that module.
    """
    true_name = name if name in sys.stdlib_module_names else str(known_as)
    top = true_name.split(".")[0]
    if top not in sys.stdlib_module_names and top != "numpy":
        raise Undecided(f"the tests use the module {true_name}")
    return importlib.import_module(true_name)


def _names(code: CodeType) -> list[str]:
    """Return every name that a code object and those within it may look up globally."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(dict.fromkeys(_names(constant)))
    return list(found)
