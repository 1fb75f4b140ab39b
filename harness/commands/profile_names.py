"""The names of profiles, over all domains."""

from __future__ import annotations

from collections.abc import Sequence

from harness.domains import DOMAINS, get_domain
from harness.domains.common.spec import Experiment
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


def with_profile(
    experiments: Sequence[Experiment], name: str
) -> tuple[list[Experiment], dict[str, str]]:
    """Return those of several experiments whose domain has a profile, and what leaves out others.

    Args:
        experiments: the experiments; a single one is kept, and refuses the profile itself.
        name: the profile's name.

    Returns:
        The experiments, and id → why another is left out.

    Raises:
        UserError: none of them has such a profile.
    """
    if len(experiments) == 1:
        return list(experiments), {}
    require_profile(name)
    kept, left_out = [], {}
    for experiment in experiments:
        known = get_domain(experiment.domain).profiles
        if name in known:
            kept.append(experiment)
        else:
            left_out[experiment.id] = f"it has no profile {name}, only {', '.join(known)}"
    if not kept:
        id, reason = next(iter(left_out.items()))
        raise UserError(f"{id} is left out, and nothing remains: {reason}.")
    return kept, left_out
