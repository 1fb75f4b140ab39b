"""The paper's methods as rows."""

from __future__ import annotations

from harness.domains.common.spec import RowSpec
from sparsepo.methods import BUILT_IN, PAPER

PAPER_METHODS = tuple(PAPER)
"""The nine methods that the paper compares, in its order."""

BASE = RowSpec("base", "base", "Base model")
"""The model that all training starts from, as it is; "base" is the name of no method."""


def method_rows(*methods: str) -> tuple[RowSpec, ...]:
    """Return one row for each built-in method, with the method's title as label.

    Args:
        methods: the methods' names, in the order shown.

    Raises:
        KeyError: a name is not that of a built-in method.
    """
    return tuple(RowSpec(name, name, BUILT_IN[name].title) for name in methods)
