"""The operations of the world's programs, correct and wrong.

A program is `[MAP for ITEM in SOURCE if FILTER]` inside a reduction. Every operation has its words
for the description, its Python code, and the mistakes that corpus documents make instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

Kind = Literal["number", "word", "character"]
Role = Literal["source", "filter", "map", "reduction"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One part of a composition."""

    role: Role
    name: str
    """Its word in function names; operations that differ only in a constant share it."""
    phrase: str
    """Its words in descriptions, around `{noun}` (filter) or `{items}` (map, reduction)."""
    code: str
    """Correct code, around `{list}` in a reduction."""
    mistakes: tuple[str, ...] = ()
    """Wrong code for the same words; empty if corpus documents make no mistake."""
    takes: Kind = "number"
    gives: Kind = "number"
    signed: bool = False
    """Whether it is only useful for numbers that may be negative."""


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the items: a function's only parameter."""

    parameter: str
    item: str
    noun: str
    kind: Kind
    signed: bool
    operation: Operation

    def sample(self, rng: Random, size: int) -> Any:
        """Return an argument.

        Args:
            rng: source of randomness.
            size: approximate number of items.
        """
        if self.kind == "number":
            if self.operation.name == "list":
                return [rng.randint(-9, 12) for _ in range(size)]
            if self.operation.name == "upto":
                return 3 * size + rng.randint(0, 2)
            return int("".join(rng.choice("123456789") for _ in range(min(4, max(1, size)))))
        if self.kind == "word":
            return [_word(rng) for _ in range(size)]
        return "".join(rng.choice(_CHARACTERS) for _ in range(2 * size))


_CHARACTERS: Final = "aaeeioubcdghmnrstAEBRST 0123579"
_WORDS: Final = (
    "sea", "tea", "sun", "ant", "egg", "tree", "stone", "apples", "eel", "Oats", "bus", "sets",
    "Ann", "test", "as", "to", "Seas", "nests", "at", "rest", "asters", "Tom", "level", "noon",
)  # fmt: skip


def _word(rng: Random) -> str:
    return rng.choice(_WORDS)


def _filters() -> Iterable[Operation]:
    def numbers(name: str, phrase: str, code: str, *mistakes: str, signed: bool = False) -> None:
        found.append(Operation("filter", name, phrase, code, mistakes, signed=signed))

    def words(name: str, phrase: str, code: str, *mistakes: str) -> None:
        found.append(Operation("filter", name, phrase, code, mistakes, "word", "word"))

    def characters(name: str, phrase: str, code: str, *mistakes: str) -> None:
        found.append(Operation("filter", name, phrase, code, mistakes, "character", "character"))

    found: list[Operation] = []
    numbers("even", "even {noun}", "x % 2 == 0", "x % 2 == 1")
    numbers("odd", "odd {noun}", "x % 2 == 1", "x % 2 == 0")
    numbers("positive", "positive {noun}", "x > 0", "x >= 0", signed=True)
    numbers("negative", "negative {noun}", "x < 0", "x <= 0", signed=True)
    for n in (2, 3, 4, 5, 6):
        numbers("above", f"{{noun}} above {n}", f"x > {n}", f"x >= {n}")
        numbers("below", f"{{noun}} below {n}", f"x < {n}", f"x <= {n}")
        numbers("from", f"{{noun}} of at least {n}", f"x >= {n}", f"x > {n}")
        numbers("not", f"{{noun}} other than {n}", f"x != {n}")
    for n in (3, 4, 5):
        numbers("multiple", f"{{noun}} divisible by {n}", f"x % {n} == 0", f"x // {n} == 0")
    for n in (2, 3, 4, 5):
        words("longer", f"{{noun}} longer than {n}", f"len(w) > {n}", f"len(w) >= {n}")
        words("shorter", f"{{noun}} shorter than {n}", f"len(w) < {n}", f"len(w) <= {n}")
    for letter in "aest":
        words("starting", f"{{noun}} starting with {letter}", f"w[0] == '{letter}'",
              f"'{letter}' in w")  # fmt: skip
        words("ending", f"{{noun}} ending in {letter}", f"w[-1] == '{letter}'",
              f"w[0] == '{letter}'")  # fmt: skip
        words("with", f"{{noun}} with {letter}", f"'{letter}' in w")
        characters("not", f"{{noun}} other than {letter}", f"c != '{letter}'", f"c == '{letter}'")
    words("mirror", "{noun} that are palindromes", "w == w[::-1]", "w[0] == w[-1]")
    characters("vowel", "{noun} that are vowels", "c in 'aeiou'", "c not in 'aeiou'")
    characters("digit", "{noun} that are digits", "c.isdigit()", "c.isalnum()")
    characters("letter", "{noun} that are letters", "c.isalpha()", "c.isalnum()")
    characters("capital", "{noun} that are capitals", "c.isupper()", "c.islower()")
    characters("small", "{noun} that are small", "c.islower()")
    return found


def _maps() -> Iterable[Operation]:
    def numbers(name: str, phrase: str, code: str, *mistakes: str, signed: bool = False) -> None:
        found.append(Operation("map", name, phrase, code, mistakes, signed=signed))

    def words(name: str, phrase: str, code: str, *mistakes: str, gives: Kind = "word") -> None:
        found.append(Operation("map", name, phrase, code, mistakes, "word", gives))

    def characters(name: str, phrase: str, code: str, *mistakes: str) -> None:
        found.append(Operation("map", name, phrase, code, mistakes, "character", "character"))

    found: list[Operation] = []
    numbers("double", "the doubles of {items}", "x * 2", "x ** 2")
    numbers("square", "the squares of {items}", "x ** 2", "x * 2")
    numbers("cube", "the cubes of {items}", "x ** 3", "x * 3")
    numbers("half", "the halves of {items} rounded down", "x // 2", "x / 2")
    numbers("negate", "the negatives of {items}", "-x", "abs(x)", signed=True)
    numbers("size", "the absolute values of {items}", "abs(x)", "-x", signed=True)
    for n in (1, 2, 3, 4, 5):
        numbers("plus", f"{{items}} plus {n}", f"x + {n}")
        numbers("minus", f"{{items}} minus {n}", f"x - {n}", f"{n} - x")
        numbers("from", f"{n} minus {{items}}", f"{n} - x", f"x - {n}")
    for n in (3, 4, 5):
        numbers("times", f"{{items}} times {n}", f"x * {n}", f"x ** {n}")
        numbers("rest", f"the remainders of {{items}} by {n}", f"x % {n}", f"x // {n}")
    words("upper", "{items} in capitals", "w.upper()", "w.title()")
    words("lower", "{items} in small letters", "w.lower()")
    words("title", "{items} with a capital", "w.title()", "w.upper()")
    words("length", "the lengths of {items}", "len(w)", "w", gives="number")
    words("mirror", "the mirrored {items}", "w[::-1]", "w[::1]")
    words("first", "the first letters of {items}", "w[0]", "w[1]")
    words("last", "the last letters of {items}", "w[-1]", "w[1]")
    words("tail", "the tails of {items}", "w[1:]", "w[:1]")
    words("twice", "{items} written twice", "w * 2", "w * 3")
    characters("upper", "{items} in capitals", "c.upper()", "c.lower()")
    characters("swap", "{items} with case swapped", "c.swapcase()", "c.upper()")
    characters("twice", "{items} written twice", "c * 2", "c * 3")
    return found


def _reductions() -> Iterable[Operation]:
    def add(kinds: tuple[Kind, ...], name: str, phrase: str, code: str, *mistakes: str) -> None:
        found.extend(
            Operation("reduction", name, phrase, code, mistakes, kind, kind) for kind in kinds
        )

    found: list[Operation] = []
    every: tuple[Kind, ...] = ("number", "word", "character")
    text: tuple[Kind, ...] = ("word", "character")
    add(("number",), "sum", "the sum of {items}", "sum([{list}])")
    add(("number",), "largest", "the largest of {items} or 0", "max([{list}], default=0)",
        "max([{list}])", "min([{list}], default=0)")  # fmt: skip
    add(("number",), "smallest", "the smallest of {items} or 0", "min([{list}], default=0)",
        "min([{list}])", "max([{list}], default=0)")  # fmt: skip
    add(("word",), "longest", "the longest of {items}", "max([{list}], key=len, default='')",
        "max([{list}], default='')")  # fmt: skip
    add(every, "list", "a list of {items}", "[{list}]")
    add(every, "sorted", "{items} sorted", "sorted([{list}])", "[{list}].sort()")
    add(("number", "word"), "falling", "{items} in falling order",
        "sorted([{list}], reverse=True)", "[{list}][::-1]")  # fmt: skip
    add(every, "distinct", "how many different {items}", "len(set([{list}]))", "len([{list}])")
    add(every, "backwards", "{items} backwards", "[{list}][::-1]", "sorted([{list}])[::-1]")
    add(every, "ends", "the first two of {items}", "[{list}][:2]", "[{list}][2:]", "[{list}][2]")
    add(every, "rear", "the last two of {items}", "[{list}][-2:]", "[{list}][:2]", "[{list}][-2]")
    add(text, "joined", "{items} joined", "''.join([{list}])", "' '.join([{list}])")
    add(text, "dashed", "{items} joined by dashes", "'-'.join([{list}])", "''.join([{list}])")
    return found


SOURCES: Final = (
    Source("xs", "x", "numbers", "number", True, Operation("source", "list", "in xs", "xs")),
    Source("n", "x", "numbers", "number", False,
           Operation("source", "upto", "from 1 to n", "range(1, n + 1)",
                     ("range(1, n)", "range(n)"))),
    Source("n", "x", "digits", "number", False,
           Operation("source", "digits", "of n", "map(int, str(n))", ("range(n)", "str(n)"))),
    Source("words", "w", "words", "word", False,
           Operation("source", "words", "in words", "words")),
    Source("s", "c", "characters", "character", False,
           Operation("source", "text", "of s", "s")),
)  # fmt: skip

FILTERS: Final = tuple(_filters())
MAPS: Final = tuple(_maps())
REDUCTIONS: Final = tuple(_reductions())
