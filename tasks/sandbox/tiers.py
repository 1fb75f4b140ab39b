"""The isolation tiers that work on this machine, strongest first, determined by trying them."""

from __future__ import annotations

import functools

from sparsepo.errors import UserError, did_you_mean

from .probe import trouble

TIERS = ("namespaces", "bubblewrap", "landlock")
UNPROTECTED = "unprotected"


def available_tiers() -> dict[str, str]:
    """Return, for each tier, why it does not work on this machine; an empty text if it works.

    A tier works if its box starts and judges a correct and a wrong program correctly.
    """
    return {name: _trouble(name) for name in TIERS}


def choose_tier(name: str | None = None) -> str:
    """Return the tier to use: the requested one, or the strongest that works.

    Args:
        name: name of a tier, including `unprotected`, or None.

    Raises:
        UserError: the tier does not exist or does not work here, or no tier works.
    """
    if name == UNPROTECTED:
        return name
    if name is not None and name not in TIERS:
        known = (*TIERS, UNPROTECTED)
        raise UserError(
            f"There is no isolation {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    troubles = {}
    for tier in TIERS if name is None else (name,):
        troubles[tier] = _trouble(tier)
        if not troubles[tier]:
            return tier
    reasons = "; ".join(f"{tier}: {why}" for tier, why in troubles.items())
    raise UserError(
        f"No isolation for model-generated programs works here ({reasons}); install bubblewrap "
        "(apt install bubblewrap), use a kernel with user namespaces or Landlock, or request "
        f"{UNPROTECTED!r} by name, which protects against nothing."
    )


@functools.cache
def _trouble(name: str) -> str:
    return trouble(name)
