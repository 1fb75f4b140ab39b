from __future__ import annotations

from dataclasses import replace

import pytest

from harness.config.chains import chains, first_chain
from harness.domains.code import DOMAIN as CODE
from harness.domains.dialogue import DOMAIN as DIALOGUE
from harness.domains.sentiment import DOMAIN as SENTIMENT
from sparsepo.errors import UserError

DOMAINS = [DIALOGUE, CODE, SENTIMENT]


def seeds_within(profile: object) -> set[int]:
    """Return every value called seed in a profile's groups, apart from that of the statistics."""
    return {
        group.seed
        for name, group in vars(profile).items()
        if hasattr(group, "seed") and name != "statistics"
    }


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_chains_seed_is_that_of_everything_random(domain: object) -> None:
    profile = replace(domain.get_profile("tiny"), seed=7, seeds=4)  # type: ignore[attr-defined]
    found = chains(profile)
    assert [chain.seed for chain in found] == [7, 8, 9, 10]
    assert [seeds_within(chain) for chain in found] == [{7}, {8}, {9}, {10}]


def test_chains_do_not_depend_on_how_many_there_are() -> None:
    profile = DIALOGUE.get_profile("tiny")
    few, many = (chains(replace(profile, seeds=count)) for count in (2, 6))
    assert [replace(chain, seeds=0) for chain in few] == [
        replace(chain, seeds=0) for chain in many[:2]
    ]
    assert replace(first_chain(profile), seeds=0) == replace(few[0], seeds=0)


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_chain_is_refused(seeds: int) -> None:
    with pytest.raises(UserError, match="at least one chain"):
        chains(replace(DIALOGUE.get_profile("tiny"), seeds=seeds))
