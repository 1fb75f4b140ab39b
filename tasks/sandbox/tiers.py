"""Which isolation this machine can give, strongest first, found out by trying."""

from __future__ import annotations

import functools

from sparsepo.errors import UserError, did_you_mean

from .probe import trouble

TIERS = ("namespaces", "bubblewrap", "landlock")
UNPROTECTED = "unprotected"


def available_tiers() -> dict[str, str]:
    """Return each tier's name with what is wrong with it here: an empty text if it works.

    A tier works if a box of it starts and judges one right and one wrong program rightly.
    """
    return {name: _trouble(name) for name in TIERS}


def choose_tier(name: str | None = None) -> str:
    """Return the tier to use: the one asked for, or the strongest that works.

    Args:
        name: a tier's name, `unprotected` included, or None.

    Raises:
        UserError: there is none of that name, or it does not work here, or none does.
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
        "(apt install bubblewrap) or use a kernel with user namespaces or Landlock, or ask by "
        f"name for {UNPROTECTED!r}, which guards against nothing."
    )


@functools.cache
def _trouble(name: str) -> str:
    return trouble(name)
