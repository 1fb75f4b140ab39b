"""Values as plain data, for the exchange between the trusted tests and the candidate.

A message contains a value and the contents of every mutable container in it, by number, which
preserves identity, cycles and in-place changes. Subclasses of plain types lose their overrides: an
int that equals everything arrives as an int. Objects that are not plain stay where they are and are
represented by handles. Nothing that arrives is executed.
"""

from __future__ import annotations

import base64
import builtins
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

_SCALARS = frozenset((int, float, str, bool, type(None)))
_PLAIN = _SCALARS - {int}
_BIG = 1 << 4096
_TYPES = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and not issubclass(value, BaseException)
}
_TYPE_NAMES = {value: name for name, value in _TYPES.items()}
_FUNCTION_NAMES = (
    "abs", "all", "any", "ascii", "bin", "chr", "divmod", "hash", "hex", "id", "iter", "len", "max",
    "min", "next", "oct", "ord", "pow", "repr", "round", "sorted", "sum",
)  # fmt: skip
_FUNCTIONS = {name: getattr(builtins, name) for name in _FUNCTION_NAMES}
_FUNCTION_IDS = {id(value): name for name, value in _FUNCTIONS.items()}
MUTABLE = (list, dict, set, bytearray, deque)


class CannotCrossError(Exception):
    """A value that is neither plain data nor can be represented by a handle."""


class MalformedError(Exception):
    """A message that this module did not write."""


class Table:
    """The containers of one exchange, by number and by identity.

    Args:
        first: the first number given to containers of this side.
    """

    def __init__(self, first: int) -> None:
        self.next = first
        self.by_number: dict[int, Any] = {}
        self.number_of: dict[int, int] = {}

    def add(self, value: Any) -> int:
        """Return the number of a container, a new one if it has none."""
        known = self.number_of.get(id(value))
        if known is None:
            known = self.next
            self.next += 1
            self.bind(known, value)
        return known

    def bind(self, number: int, value: Any) -> None:
        """Assign `number` to `value`, which is kept alive as long as the table."""
        self.by_number[number] = value
        self.number_of[id(value)] = number


class Encoder:
    """Turns values into JSON trees.

    Args:
        table: assigns numbers to containers.
        handle: returns the tree that represents a value that is not plain.
    """

    def __init__(self, table: Table, handle: Callable[[Any], Any]) -> None:
        self.table = table
        self.handle = handle
        self.contents: dict[int, Any] = {}

    def message(self, value: Any) -> dict[str, Any]:
        """Return a value with the contents of its containers."""
        tree = self.tree(value)
        return {"v": tree, "o": list(self.contents.items())}

    def tree(self, value: Any) -> Any:
        """Return the tree of one value; containers are added to `contents`."""
        kind = type(value)
        if kind in _SCALARS:
            return ["i", hex(value)] if kind is int and not -_BIG < value < _BIG else value
        if isinstance(value, MUTABLE):
            number = self.table.add(value)
            if number not in self.contents:
                self.contents[number] = None  # a cycle ends here
                self.contents[number] = self._content(value)
            return ["m", number]
        if isinstance(value, tuple):
            return ["t", self._items(list(tuple.__iter__(value)))]
        if isinstance(value, frozenset):
            return ["fs", self._items(list(frozenset.__iter__(value)))]
        if isinstance(value, bytes):
            return ["b", base64.b64encode(value).decode()]
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if isinstance(value, range):
            return ["r", value.start, value.stop, value.step]
        if isinstance(value, slice):
            return ["sl", self._items([value.start, value.stop, value.step])]
        if isinstance(value, type):
            name = _TYPE_NAMES.get(value)
            return self.handle(value) if name is None else ["ty", name]
        if id(value) in _FUNCTION_IDS:
            return ["bf", _FUNCTION_IDS[id(value)]]
        if value is Ellipsis:
            return ["e"]
        return self._less_common(value)

    def _less_common(self, value: Any) -> Any:
        """Numbers of the standard library and NumPy; subclasses of int, float and str."""
        kind = type(value)
        if kind.__module__ == "numpy" and hasattr(value, "dtype"):
            return self._array(value)
        if isinstance(value, bool | int):
            return self.tree(int.__pos__(value))
        if isinstance(value, float):
            return float.__pos__(value)
        if isinstance(value, str):
            return str.__add__(value, "")
        for name, build, take in _standard():
            if kind is build:
                return ["st", name, self._items(list(take(value)))]
        return self.handle(value)

    def _array(self, value: Any) -> Any:
        numpy = sys.modules["numpy"]
        array = numpy.asarray(value)
        if array.dtype.hasobject or array.dtype.fields is not None:
            raise CannotCrossError("an array of objects")
        kind = "ns" if isinstance(value, numpy.generic) else "na"
        data = base64.b64encode(array.tobytes()).decode()
        return [kind, array.dtype.str, list(array.shape), data]

    def _items(self, items: list[Any]) -> list[Any]:
        return [self.tree(item) for item in items]

    def _content(self, value: Any) -> Any:
        if isinstance(value, list):
            entries = list(list.__iter__(value))
            kinds = set(map(type, entries))
            if kinds <= _PLAIN or (kinds == {int} and min(entries) > -_BIG and max(entries) < _BIG):
                return ["l", entries]
            return ["l", self._items(entries)]
        if isinstance(value, dict):
            kind = type(value)
            walk = OrderedDict if isinstance(value, OrderedDict) else dict
            pairs = [self._items([key, item]) for key, item in walk.items(value)]
            name = {OrderedDict: "od", Counter: "co", defaultdict: "dd"}.get(kind, "d")
            if name == "dd":
                factory = value.default_factory  # type: ignore[attr-defined]
                return [name, pairs, self.tree(factory)]
            return [name, pairs]
        if isinstance(value, set):
            return ["s", self._items(list(set.__iter__(value)))]
        if isinstance(value, bytearray):
            return ["ba", base64.b64encode(value).decode()]
        return ["dq", self._items(list(deque.__iter__(value))), value.maxlen]


class Decoder:
    """Turns JSON trees of the other side into values.

    Args:
        table: the containers of this exchange.
        handle: returns the object that represents a handle's tree on this side.
    """

    def __init__(self, table: Table, handle: Callable[[Any], Any]) -> None:
        self.table = table
        self.handle = handle

    def value(self, message: Any) -> Any:
        """Return a message's value; its containers are created or changed in place.

        Raises:
            MalformedError: not a message of `Encoder`.
        """
        try:
            contents = [(int(number), content) for number, content in message["o"]]
            for number, content in contents:
                if number not in self.table.by_number:
                    self.table.bind(number, _shell(content))
            for number, content in contents:
                self._fill(self.table.by_number[number], content)
            return self.tree(message["v"])
        except (
            KeyError,
            IndexError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
        ) as error:
            raise MalformedError(f"{type(error).__name__}: {error}") from None

    def tree(self, tree: Any) -> Any:
        """Return the value of one tree."""
        if not isinstance(tree, list):
            if isinstance(tree, dict):
                raise MalformedError("a mapping where a value was due")
            return tree
        kind = tree[0]
        if kind == "m":
            return self.table.by_number[tree[1]]
        if kind == "t":
            return tuple(self._items(tree[1]))
        if kind == "i":
            return int(tree[1], 16)
        if kind == "fs":
            return frozenset(self._items(tree[1]))
        if kind == "b":
            return base64.b64decode(tree[1])
        if kind == "c":
            return complex(tree[1], tree[2])
        if kind == "r":
            return range(tree[1], tree[2], tree[3])
        if kind == "sl":
            return slice(*self._items(tree[1]))
        if kind == "ty":
            return _TYPES[tree[1]]
        if kind == "bf":
            return _FUNCTIONS[tree[1]]
        if kind == "e":
            return Ellipsis
        if kind == "st":
            return self._standard(tree[1], self._items(tree[2]))
        if kind in ("ns", "na"):
            return _numpy_value(kind, tree)
        return self.handle(tree)

    def _items(self, trees: list[Any]) -> list[Any]:
        return [self.tree(tree) for tree in trees]

    def _standard(self, name: str, parts: list[Any]) -> Any:
        for known, build, _ in _standard(load=True):
            if known == name:
                return build(*parts)
        raise MalformedError(f"an unknown type {name!r}")

    def _fill(self, target: Any, content: Any) -> None:
        kind = content[0]
        if kind == "ba":
            target[:] = base64.b64decode(content[1])
            return
        items = self._items(content[1]) if kind in ("l", "s", "dq") else []
        if kind == "l":
            target[:] = items
        elif kind in ("s", "dq"):
            target.clear()
            target.update(items) if kind == "s" else target.extend(items)
        else:
            target.clear()
            for key, item in content[1]:
                target[self.tree(key)] = self.tree(item)
            if kind == "dd":
                target.default_factory = self.tree(content[2])


def _shell(content: Any) -> Any:
    """An empty container of the kind that a content is for."""
    kind = content[0]
    if kind == "dq":
        return deque(maxlen=content[2])
    return {
        "l": list, "d": dict, "od": OrderedDict, "co": Counter, "dd": defaultdict, "s": set,
        "ba": bytearray,
    }[kind]()  # fmt: skip


def _numpy_value(kind: str, tree: list[Any]) -> Any:
    import numpy

    dtype = numpy.dtype(tree[1])
    if dtype.hasobject:
        raise MalformedError("an array of objects")
    array = numpy.frombuffer(base64.b64decode(tree[3]), dtype=dtype).reshape(tree[2]).copy()
    return array[()] if kind == "ns" else array


def _standard(*, load: bool = False) -> list[tuple[str, Any, Callable[[Any], tuple[Any, ...]]]]:
    """Types of the standard library that count as plain: name, type, its arguments."""
    found: list[tuple[str, Any, Callable[[Any], tuple[Any, ...]]]] = []
    modules = sys.modules
    if load:
        import datetime
        import decimal
        import fractions

        modules = {"datetime": datetime, "decimal": decimal, "fractions": fractions}
    if (module := modules.get("fractions")) is not None:
        found.append(("Fraction", module.Fraction, lambda v: (v.numerator, v.denominator)))
    if (module := modules.get("decimal")) is not None:
        found.append(("Decimal", module.Decimal, lambda v: (str(v),)))
    if (module := modules.get("datetime")) is not None:
        found += [
            ("date", module.date, lambda v: (v.year, v.month, v.day)),
            ("time", module.time, lambda v: _without_zone(v, v.hour, v.minute, v.second)),
            (
                "datetime",
                module.datetime,
                lambda v: _without_zone(v, v.year, v.month, v.day, v.hour, v.minute, v.second),
            ),
            ("timedelta", module.timedelta, lambda v: (v.days, v.seconds, v.microseconds)),
        ]
    return found


def _without_zone(value: Any, *parts: int) -> tuple[Any, ...]:
    if value.tzinfo is not None:
        raise CannotCrossError("a time with a zone")
    return (*parts, value.microsecond)
