"""The tests' stand-ins for the candidate's functions, classes and objects.

The value itself stays in the candidate's process. The tests may call it, read and set its
attributes, iterate over it, and ask for its length, an item, its truth or its text; none of this
tells the candidate what the tests expect. Comparing it or calculating with it would leave the
decision to the candidate, and raises Undecided.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from .rpc import Peer, Undecided

_set = object.__setattr__


class Remote:
    """Represents one object of the candidate's process.

    Args:
        peer: the connection to the candidate.
        target: its name in the candidate, or its number.
    """

    __slots__ = ("__name__", "_peer", "_target")

    def __init__(self, peer: Peer, target: str | int) -> None:
        _set(self, "_peer", peer)
        _set(self, "_target", target)
        _set(self, "__name__", str(target))

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call it in the candidate's process; return the value as plain data or a stand-in."""
        return self._peer.request("call", self._target, (args, named))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            self._undecided(name)
        return self._peer.request("attr", self._target, (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.request("set", self._target, (name, value))

    def __getitem__(self, key: Any) -> Any:
        return self._peer.request("item", self._target, (key,))

    def __len__(self) -> int:
        return int(self._plain("len", int))

    def __bool__(self) -> bool:
        return bool(self._plain("bool", bool))

    def __str__(self) -> str:
        return str(self._plain("str", str))

    def __repr__(self) -> str:
        return str(self._plain("repr", str))

    def __iter__(self) -> Iterator[Any]:
        walk = self._peer.request("iter", self._target, ())
        if type(walk) is not Remote:
            self._undecided("an iterator")
        return walk

    def __next__(self) -> Any:
        return self._peer.request("next", self._target, ())

    def __hash__(self) -> int:
        return id(self)

    def _plain(self, operation: str, kind: type) -> Any:
        value = self._peer.request(operation, self._target, ())
        if type(value) is not kind:
            self._undecided(operation)
        return value

    def _undecided(self, what: str) -> NoReturn:
        raise self._peer.stop(Undecided(f"{what} of an object that is not plain data"))


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any) -> Any:
        self._undecided(name)

    return refuse


_REFUSED = (
    "eq", "ne", "lt", "le", "gt", "ge", "contains", "add", "radd", "sub", "rsub", "mul", "rmul",
    "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod", "pow", "rpow", "and", "rand",
    "or", "ror", "xor", "rxor", "lshift", "rshift", "neg", "pos", "abs", "invert", "int",
    "float", "complex", "index", "round", "trunc", "floor", "ceil", "format", "enter", "exit",
    "await", "aiter", "anext", "aenter", "aexit", "bytes", "instancecheck", "subclasscheck",
    "setitem", "delitem", "delattr", "reversed", "matmul", "rmatmul", "copy", "deepcopy",
    "reduce_ex", "iadd", "isub", "imul", "fspath", "divmod", "rdivmod",
)  # fmt: skip
for _name in _REFUSED:
    setattr(Remote, f"__{_name}__", _refusing(f"__{_name}__"))


def builtin_base(names: Any) -> type[BaseException]:
    """Return the nearest base of an exception that is built into the language."""
    for name in names if isinstance(names, list) else []:
        found = getattr(builtins, str(name), None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return Exception
