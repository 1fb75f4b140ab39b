"""Compositions of operations: their programs, their mistakes, their descriptions."""

from __future__ import annotations

import builtins
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from tasks.code.world.operations import FILTERS, MAPS, REDUCTIONS, SOURCES, Operation, Source

Side = Literal["corpus", "train", "validation", "test"]

_SIDES: Final[tuple[tuple[Side, float], ...]] = (
    ("test", 0.15), ("validation", 0.05), ("train", 0.15), ("corpus", 1.0),
)  # fmt: skip
_BUILTINS: Final = {
    name: getattr(builtins, name)
    for name in ("abs", "int", "len", "map", "max", "min", "range", "set", "sorted", "str", "sum")
}


@dataclass(frozen=True, slots=True)
class Composition:
    """A program: it reduces the mapped, filtered items of a source."""

    source: Source
    filter: Operation | None
    map: Operation | None
    reduction: Operation

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Its operations, in the order in which programs name them."""
        found = (self.source.operation, self.filter, self.map, self.reduction)
        return tuple(operation for operation in found if operation is not None)

    @property
    def key(self) -> str:
        """The composition's identity, including constants."""
        return "/".join(operation.code for operation in self.operations)

    @property
    def side(self) -> Side:
        """The corpus or the kind of problem that it belongs to, by a hash of its key."""
        digest = hashlib.sha256(self.key.encode()).digest()
        place = int.from_bytes(digest[:4], "big") / 2**32
        for name, share in _SIDES:
            if place < share:
                return name
            place -= share
        return "corpus"

    @property
    def function(self) -> str:
        """The function's name: two words."""
        told = self.filter or self.map
        assert told is not None
        return f"{self.reduction.name}_{told.name}"

    @property
    def description(self) -> str:
        """The description of what the function has to find."""
        items = self.filter.phrase if self.filter else "{noun}"
        items = items.format(noun=self.source.noun)
        items = f"{items} {self.source.operation.phrase}"
        if self.map is not None:
            items = self.map.phrase.format(items=items)
        return self.reduction.phrase.format(items=items)

    def expression(self, wrong: Mapping[Operation, str] | None = None) -> str:
        """Return the program's expression, with some operations' code replaced.

        Args:
            wrong: operation → the mistake to use instead.
        """
        written = {operation: operation.code for operation in self.operations} | dict(wrong or {})
        item, source = self.source.item, written[self.source.operation]
        comprehension = f"{written[self.map] if self.map else item} for {item} in {source}"
        if self.filter is not None:
            comprehension += f" if {written[self.filter]}"
        return written[self.reduction].format(list=comprehension)

    def mistaken(self) -> Iterator[str]:
        """Yield the expression of every combination of operations with a mistake."""
        choices = [(op.code, *op.mistakes) for op in self.operations]
        combinations = itertools.product(*choices)
        next(combinations)
        for codes in combinations:
            yield self.expression(dict(zip(self.operations, codes, strict=True)))

    def callable(self, expression: str | None = None) -> Callable[[Any], Any]:
        """Return the function of one of the world's own expressions, by default the correct one."""
        text = f"lambda {self.source.parameter}: {expression or self.expression()}"
        # The text consists only of this package's operations.
        made: Callable[[Any], Any] = eval(text, {"__builtins__": _BUILTINS})
        return made


def sample_composition(rng: Random) -> Composition:
    """Return a random composition in which each operation has an effect."""
    while True:
        source = rng.choices(SOURCES, (3, 2, 1, 3, 2))[0]
        filters = [o for o in FILTERS if o.takes == source.kind and source.signed >= o.signed]
        maps = [o for o in MAPS if o.takes == source.kind and source.signed >= o.signed]
        chosen = rng.choice(filters) if rng.random() < 0.8 else None
        mapped = rng.choice(maps) if rng.random() < 0.7 else None
        if chosen is None and mapped is None:
            continue
        kind = mapped.gives if mapped is not None else source.kind
        reduction = rng.choice([o for o in REDUCTIONS if o.takes == kind])
        return Composition(source, chosen, mapped, reduction)


def sample_side(rng: Random, side: Side) -> Composition:
    """Return a random composition of one side of the split."""
    while True:
        composition = sample_composition(rng)
        if composition.side == side:
            return composition
