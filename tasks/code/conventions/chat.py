"""Extracts the code from answers of chat models, in Markdown with prose around it.

The rules are:

1. everything up to the last `</think>` is dropped;
2. of fenced blocks (``` or ~~~, closed or not), those marked as Python count, or all if none is
   marked; the first one that defines a name under test is used, with the definitions and imports
   of earlier blocks; if none does, the first block is used;
3. if the text before the first fence is already code, that fence closes a block that the prompt
   opened, and the text before it is used;
4. without a fence, the code begins at the first definition or import, or at the lines of code right
   before it, and ends before the next line of prose.

Code that defines a name under test is a whole program. It runs after the part of the prompt before
that definition (imports, helpers), which answers often omit. Other code continues the prompt.

Lines are classified by their beginnings, because model output is never compiled outside the
sandbox.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from tasks.code.conventions.base import Convention
from tasks.code.problems import Problem, defined_names

PYTHON: Final = ("python", "py", "python3", "py3", "ipython")
"""Words that mark a fenced block as Python."""

_OPENING: Final = re.compile(
    r"(?P<before>.*?)(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)(?P<more>[^`~]*)"
)
_BEGINS_CODE: Final = re.compile(
    r"(?:async +def|def|class) +\w|import +\w|from +[\w.]+ +import\b|@\w"
)
_CODE: Final = re.compile(
    r"(?:async +)?(?:def|class|for|with) +\w|import +\w|from +[\w.]+ +import\b|@\w|#|[)\]}]"
    r'|(?:if|elif|while|return|raise|assert|del|global) +[\w("\'\[{-]|(?:else|try|finally) *:'
    r'|except\b.*:|pass\b *$|[rbf]?"""|[rbf]?\'\'\''
    r"|[\w.]+\(|[\w.\[\]\"', ]+(?:: *[\w.\[\], ]+)?[-+*/%|&^]?=[^=]"
)
"""Beginning of a line of code at the left margin."""
_ASSIGNED: Final = re.compile(r"^(\w+) *(?::[^=\n]+)?=(?!=)", re.MULTILINE)
_FENCE_LINE: Final = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def has_fence(text: str) -> bool:
    """Return whether a text has a line that opens or closes a fenced block."""
    return _FENCE_LINE.search(text) is not None


class Chat(Convention):
    """Extracts the code from a chat model's answer."""

    name: ClassVar[str] = "chat"

    def prompt(self, problem: Problem) -> str:
        """Return the row's own prompt."""
        return problem.prompt

    def parts(self, problem: Problem, completion: str) -> tuple[str, str]:
        """Return the prompt up to the tested definition, or all of it, and the code."""
        code = extract_code(completion, problem.entry_points)
        if _defines(code, problem.entry_points):
            return _before_definition(problem, code), code
        return problem.prefix, _as_body(code) if _within_body(problem.prefix) else code

    def whole_parts(self, problem: Problem, program: str) -> tuple[str, str]:
        """Return nothing, and the code."""
        return "", extract_code(program, problem.entry_points)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    """Its first word after the fence, in lower case."""
    code: str


def extract_code(answer: str, entry_points: Sequence[str]) -> str:
    """Return the code in a chat model's answer, by the rules at the top of this file.

    Args:
        answer: the model's output.
        entry_points: names under test; empty if they are unknown.
    """
    text = answer.replace("\r\n", "\n").rpartition("</think>")[2]
    before, blocks = fenced_blocks(text)
    if not blocks:
        return _unfenced(text)
    if not blocks[0].language and _is_code(before):
        return before
    python = [block for block in blocks if block.language in PYTHON] or blocks
    codes = [_dedented(block.code, entry_points) for block in python]
    for index, code in enumerate(codes):
        if _defines(code, entry_points):
            helpers = [earlier for earlier in codes[:index] if _BEGINS_CODE.match(earlier.lstrip())]
            return "\n".join([*helpers, code])
    return codes[0]


def fenced_blocks(text: str) -> tuple[str, list[Block]]:
    """Return the text before the first fence, and the fenced blocks of Markdown.

    A block that is not closed ends with the text. Lines lose the indentation of their fence.
    """
    blocks: list[Block] = []
    lines = text.split("\n")
    before: list[str] | None = None
    place = 0
    while place < len(lines):
        opening = _opening(lines[place])
        place += 1
        if opening is None:
            continue
        if before is None:
            before = lines[: place - 1]
        mark, indent = opening["mark"], len(opening["before"]) - len(opening["before"].lstrip())
        content: list[str] = []
        while place < len(lines):
            line = lines[place].strip()
            place += 1
            if line.startswith(mark) and not line.strip(mark[0]):
                break
            content.append(_unindented(lines[place - 1], indent))
        blocks.append(Block(opening["language"].lower(), "\n".join([*content, ""])))
    return "\n".join(lines if before is None else [*before, ""]), blocks


def _opening(line: str) -> re.Match[str] | None:
    """Return a fence that opens a block: at a line's beginning, or Python after prose."""
    match = _OPENING.fullmatch(line.rstrip())
    if match is None:
        return None
    at_beginning = not match["before"].strip()
    return match if at_beginning or match["language"].lower() in PYTHON else None


def _unindented(line: str, width: int) -> str:
    blank = len(line) - len(line.lstrip(" \t"))
    return line[min(width, blank) :]


def _dedented(code: str, entry_points: Sequence[str]) -> str:
    """Return code without its common indentation, if it is a program and not a function's body."""
    flat = textwrap.dedent(code)
    return flat if entry_points and _defines(flat, entry_points) else code


def _defines(code: str, entry_points: Sequence[str]) -> bool:
    names = {*defined_names(code), *_ASSIGNED.findall(code)}
    return bool(names.intersection(entry_points) if entry_points else defined_names(code))


def _before_definition(problem: Problem, code: str) -> str:
    if "from __future__" in code:
        return ""  # must be a program's first statement
    names = "|".join(map(re.escape, problem.entry_points))
    definition = re.compile(rf"^(?:@.*\n)*(?:async +)?(?:def|class) +(?:{names})\b", re.MULTILINE)
    places = [match.start() for match in definition.finditer(problem.prefix)] if names else []
    return problem.prefix[: places[-1]].lstrip("\n") if places else ""


def _within_body(prefix: str) -> bool:
    lines = prefix.rstrip().split("\n")
    return lines[-1][:1].isspace() or lines[-1].endswith(":")


def _as_body(code: str) -> str:
    """Return a function's body, indented if it is at the left margin in the answer."""
    first = next((line for line in code.split("\n") if line.strip()), "")
    flat = bool(first) and not first[0].isspace() and not _BEGINS_CODE.match(first)
    return textwrap.indent(code, "    ") if flat else code


def _unfenced(text: str) -> str:
    """Return the code in prose without a fence; the whole text if no line begins code."""
    lines = text.split("\n")
    if _is_code(text):
        start = 0
    else:
        places = (i for i, line in enumerate(lines) if _BEGINS_CODE.match(line))
        start = next(places, -1)
        if start < 0:
            return text
        while start > 0 and _CODE.match(lines[start - 1]):  # constants before the definitions
            start -= 1
    quoted = False
    for place in range(start, len(lines)):
        line = lines[place]
        if line.strip() and not quoted and not line[0].isspace() and not _CODE.match(line):
            return "\n".join([*lines[start:place], ""])
        quoted ^= (line.count('"""') + line.count("'''")) % 2 == 1
    return "\n".join(lines[start:])


def _is_code(text: str) -> bool:
    """Return whether the first line of a text is code, or the indented body of a function."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first.startswith(("\t", "  ")) or _CODE.match(first) is not None
