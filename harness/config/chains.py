"""Chains: independent repetitions of a whole experiment, each with a seed of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from harness.config.profiles import Profile
from sparsepo.errors import UserError

ProfileT = TypeVar("ProfileT", bound=Profile)


def chains(profile: ProfileT) -> tuple[ProfileT, ...]:
    """Return the profile of each chain, in the order of their seeds.

    A chain repeats everything that chance decides: the embedded world, the base model, SFT,
    preference pairs, preference optimization, sampling and evaluation. Chain k of a run has the
    seed ``profile.seed + k``, and ``profile.chain_seeds`` names the values that take it. Their
    stages are shared where two chains need the same one, such as data from a file.

    Args:
        profile: all values, with the seed of the first chain and the number of chains.

    Returns:
        One profile per chain; its `seed` is the chain's.

    Raises:
        UserError: if there is no chain, or a value that a chain's seed decides was changed.
    """
    if profile.seeds < 1:
        raise UserError(f"seeds={profile.seeds}: at least one chain is needed.")
    for key in profile.chain_seeds:
        if _get(profile, key) != 0:
            raise UserError(f"{key} is decided by each chain's seed; set seed instead.")
    return tuple(_chain(profile, profile.seed + offset) for offset in range(profile.seeds))


def first_chain(profile: ProfileT) -> ProfileT:
    """Return the profile of the first chain alone, for what is shown of one chain only."""
    return chains(replace(profile, seeds=1))[0]


def _chain(profile: ProfileT, seed: int) -> ProfileT:
    values: Any = replace(profile, seed=seed)
    for key in profile.chain_seeds:
        group, _, name = key.partition(".")
        values = replace(values, **{group: replace(getattr(values, group), **{name: seed})})
    chain: ProfileT = values
    return chain


def _get(profile: Profile, key: str) -> object:
    group, _, name = key.partition(".")
    return getattr(getattr(profile, group), name)
