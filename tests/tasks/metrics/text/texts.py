"""Summaries that the tests own, with references and posts, the odd ones included."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

POST = (
    "My sister Ruth bought a small bakery in Leeds last spring. She borrowed 4,000 pounds from our "
    "uncle and promised to pay it back by Christmas. The oven broke in June, and I lent her 900 "
    " pounds for the repair. Now she says that the shop makes no profit."
)
CANDIDATES = [
    "Sister borrowed money from our uncle for her bakery.",
    "sister BORROWED moneys; from our uncles, for bakeries!",
    "The oven broke and I lent her 900 pounds for the repair.",
    "Nothing of this is in the post.",
    "Ruth",
    "Ruth Ruth Ruth Ruth",
    "She bought a café — naïvely, they said — for 4,000 £.",
    "running runner runs ran",
    "Sister borrowed money from our uncle for her bakery.",
    "A much longer summary that goes on about the sister, the uncle, the bakery, the oven, the "
    "loan and the repair, and that repeats itself about the sister, the uncle, and the bakery.",
]
REFERENCES = [
    "My sister borrowed money from our uncle to buy a bakery.",
    "My sister borrowed money from our uncle to buy a bakery.",
    "I lent my sister 900 pounds when her oven broke.",
    "My sister will not pay back our uncle.",
    "Ruth borrowed money.",
    "Ruth borrowed money.",
    "She bought a cafe for 4000 pounds.",
    "The runners run.",
    "Sister borrowed money from our uncle for her bakery.",
    "My sister owes money.",
]
GROUPS = [CANDIDATES[:5], CANDIDATES[5:]]


def real_data() -> Path:
    """Return the folder of the TL;DR files, or skip the test."""
    folder = Path(os.environ.get("SPARSEPO_REAL_DATA", "../shared/data"))
    if not (folder / "tldr_prompts.jsonl.gz").is_file():
        pytest.skip("needs the TL;DR files; SPARSEPO_REAL_DATA names their folder")
    return folder


def digest(*texts: str) -> str:
    """Return what names texts in a file of golden values."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
