"""The stage that chooses one of a method's trials."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.domains.common.work.files import write_json
from harness.domains.common.work.outcome import Outcome, read_outcome
from harness.graph.stages import StageContext
from sparsepo.errors import UserError

CHOICE = "choice.json"


def choose_trial(context: StageContext) -> None:
    """Write choice.json: the number of the `chosen` trial, and the `settings` that it changes.

    Configuration: `row` (for the message), `kl_budget` (nats, or None), `settings` (of each trial,
    in order). Inputs: the measured trials by number, such as "0".

    Raises:
        UserError: every trial has failed.
    """
    outcomes = {int(name): read_outcome(folder) for name, folder in context.inputs.items()}
    chosen = best(outcomes, context.config["kl_budget"])
    if chosen is None:
        first = outcomes[min(outcomes)].reason or ""
        raise UserError(
            f"All {len(outcomes)} trials of {context.config['row']} failed, the first because: "
            f"{first.rstrip('.')}."
        )
    write_json(
        {"chosen": chosen, "settings": context.config["settings"][chosen]}, context.work / CHOICE
    )


def best(outcomes: Mapping[int, Outcome], kl_budget: float | None) -> int | None:
    """Return the number of the best trial; None if all have failed.

    Args:
        outcomes: number → what was measured.
        kl_budget: the largest KL that a trial may have. If none keeps to it, the trial with the
            smallest KL is the best.
    """
    done = [(number, one) for number, one in outcomes.items() if one.state == "complete"]
    if kl_budget is not None:
        within = [(number, one) for number, one in done if _kl(one) <= kl_budget]
        if not within:
            return min(done, key=lambda item: (_kl(item[1]), item[0]), default=(None, None))[0]
        done = within
    return max(done, key=lambda item: (*_values(item[1]), -item[0]), default=(None, None))[0]


def _kl(outcome: Outcome) -> float:
    return math.inf if outcome.kl is None else outcome.kl


def _values(outcome: Outcome) -> tuple[float, float]:
    assert outcome.value is not None
    return outcome.value, 0.0 if outcome.second is None else outcome.second
