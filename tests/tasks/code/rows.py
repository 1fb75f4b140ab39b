"""Hand-made rows in the real schemas."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HUMANEVAL: list[Row] = [
    {
        "task_id": "HumanEval/0",
        "prompt": "from typing import List\n\n\ndef total(xs: List[int]) -> int:\n"
        '    """ Sum.\n    """\n',
        "entry_point": "total",
        "canonical_solution": "    return sum(xs)\n",
        "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n"
        "    assert candidate([1, 2]) == 3\n\n",
    },
    {
        "task_id": "HumanEval/1",
        "prompt": '\n\ndef half(n: int) -> int:\n    """ Half of n. """\n    return n // 2\n\n\n'
        'def quarter(n: int) -> int:\n    """ A quarter, by halves. """\n',
        "entry_point": "quarter",
        "canonical_solution": "    return half(half(n))\n",
        "test": "def check(candidate):\n    assert candidate(half(40)) == 5\n",
    },
]

MBPP: list[Row] = [
    {
        "task_id": 11,
        "text": "Write a function to triple a number.",
        "code": "def triple(n): \r\n    return 3 * n",
        "test_list": ["assert triple(2) == 6", "assert triple(0) == 0"],
        "test_setup_code": "",
        "challenge_test_list": ["assert triple(-1) == -3"],
    },
    {
        "task_id": 367,
        "text": "Write a function to count a tree's nodes.",
        "code": "class Node:\r\n    def __init__(self, left=None):\r\n        self.left = left\r\n"
        "def count(node):\r\n    return 1 + (count(node.left) if node.left else 0)",
        "test_list": ["assert count(root) == 2"],
        "test_setup_code": "root = Node()\r\nroot.left = Node()",
        "challenge_test_list": [],
    },
]

PLAIN: list[Row] = [
    {
        "task_id": "add",
        "prompt": "def add(a, b):\n",
        "tests": "assert add(1, 2) == 3",
        "reference": "    return a + b\n",
    },
    {
        "task_id": "neg",
        "prompt": "Write a function neg that negates.",
        "tests": ["assert neg(1) == -1", "assert neg(0) == 0"],
    },
]


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write JSON Lines, gzipped if the name says so."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
