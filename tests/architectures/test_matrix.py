"""Each architecture trains rightly with each kind of method, or says in a sentence why not."""

from __future__ import annotations

import re

import pytest

from tests.architectures.outcomes import METHODS, TESTED, outcomes, recorded
from tests.architectures.page import PAGE, page


@pytest.mark.parametrize("architecture", TESTED)
def test_an_architecture_trains_as_recorded(architecture: str) -> None:
    assert outcomes(architecture) == recorded()[architecture]


def test_every_outcome_is_a_right_number_or_one_plain_sentence() -> None:
    everything = recorded()
    assert len(everything) > 100
    for name, by_method in everything.items():
        assert set(by_method) == set(METHODS)
        for outcome in by_method.values():
            sentence = re.fullmatch(r"[A-Z].*\.", outcome) and "Traceback" not in outcome
            assert outcome in ("packed", "plain", "alone") or sentence, (name, outcome)


def test_the_page_lists_what_was_recorded() -> None:
    text = PAGE.read_text()
    version = re.search(r"transformers (\d[\d.]+\d)", text)
    assert version
    assert text == page(recorded(), TESTED, version[1])
