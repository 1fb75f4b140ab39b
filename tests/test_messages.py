"""One style for everything that a user is told to fix: a sentence, with a capital and a period."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NAME = re.compile(r"-{0,2}[a-z][a-z0-9]*[._@=\0-].*")
"""What may begin a sentence in lower case: the name of an option, a setting or a file."""

NAMES = {"args", "passk", "plugin", "transformers"}
"""Names that look like any word."""


def text_of(node: ast.expr) -> str | None:
    """Return a message with \\0 in place of each value; None if it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None else left + ("\0" if right is None else right)
    return None


def messages() -> Iterator[tuple[str, str]]:
    for package in ("sparsepo", "tasks", "harness"):
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_bytes())
            constants = {
                target.id: node.value
                for node in tree.body
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in {"UserError", "StageError"}
                    and node.args
                ):
                    message = node.args[0]
                    if isinstance(message, ast.Name):
                        message = constants.get(message.id, message)
                    if (text := text_of(message)) is not None:
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", text


FOUND = list(messages())


def test_messages_are_found() -> None:
    assert len(FOUND) > 200


@pytest.mark.parametrize(("place", "text"), FOUND, ids=[place for place, _ in FOUND])
def test_a_message_is_a_sentence(place: str, text: str) -> None:
    first = text.split()[0].rstrip(",:;")
    begins = not first[0].islower() or first in NAMES or NAME.fullmatch(first) is not None
    assert begins, text
    assert text.endswith((".", "?", "\0")), text
    assert not re.search(r"\bmend\b|\banew\b", text), text
