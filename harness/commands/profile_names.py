"""The names of profiles, over all domains."""

from __future__ import annotations

from harness.domains import DOMAINS, get_domain
from sparsepo.errors import UserError, did_you_mean


def require_profile(name: str) -> None:
    """Check that some domain has a profile.

    Raises:
        UserError: none has.
    """
    known = dict.fromkeys(profile for domain in DOMAINS for profile in get_domain(domain).profiles)
    if name not in known:
        raise UserError(
            f"Unknown profile '{name}'.{did_you_mean(name, known)} Profiles: {', '.join(known)}."
        )
