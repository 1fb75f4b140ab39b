"""A method's formula, and what its symbols mean."""

from __future__ import annotations

import inspect
import re

from sparsepo.methods.base import Method, Needs


def formula(method: type[Method]) -> str | None:
    """Return the formula "L = …" in a method's docstring, or None if it has none."""
    found = re.search(
        r"^L = .*?(?=\.(?:\s|$))", inspect.cleandoc(method.__doc__ or ""), re.M | re.S
    )
    return None if found is None else found[0]


def notation(needs: Needs) -> str:
    """Return a sentence that explains the symbols of a method's formula."""
    parts = ["y_w and y_l are the chosen and the rejected response to a prompt x"]
    if needs.ref_logps:
        parts.append(
            "r_t = log π(y_t | x, y_<t) − log π_ref(y_t | x, y_<t) is the log-ratio of policy and "
            "reference at response token t"
        )
    if needs.kl:
        parts.append("k_t = KL(π_ref(·|x, y_<t) ‖ π(·|x, y_<t)) is the token KL")
    if needs.mask != "none":
        parts.append("m ≥ 0 is a mask over response tokens")
    return "Here " + "; ".join(parts) + ". Sums and means run over response tokens."
