"""Checks that data and steps have what a method needs, each refused in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.training.config import POConfig
from sparsepo.types import PreferencePair, TokenizedPair

LEAST_RATIO, LARGEST_RATIO = 0.995, 1.335
"""λ_D n_D / (λ_U n_U) should be from 1 to 4/3 (arXiv 2402.01306, equation 8), up to rounding."""

_log = logging.getLogger(__name__)


def check_data(method: Method, pairs: Sequence[TokenizedPair]) -> None:
    """Check that the pairs have the scores and probabilities that a method reads.

    Raises:
        UserError: a pair lacks one, or a method's scores do not order a pair.
    """
    needs = method.needs
    if needs.scores:
        lacking = [pair for pair in pairs if pair.scores is None]
        if lacking:
            raise UserError(
                f"Method '{method.name}' needs the scores of both responses, which "
                f"{len(lacking)} of {len(pairs)} pairs lack ({lacking[0].pair_id}); add the "
                "columns score_chosen and score_rejected."
            )
        level = [pair for pair in pairs if pair.scores and pair.scores[0] <= pair.scores[1]]
        if level:
            raise UserError(
                f"Method '{method.name}' needs a chosen score above the rejected one, which "
                f"{len(level)} of {len(pairs)} pairs lack ({level[0].pair_id}); remove pairs with "
                "equal scores, and exchange the responses of the others."
            )
    if needs.win_probability:
        lacking = [pair for pair in pairs if pair.win_probability is None]
        if lacking:
            raise UserError(
                f"Method '{method.name}' needs the probability that chosen is preferred, which "
                f"{len(lacking)} of {len(pairs)} pairs lack ({lacking[0].pair_id}); add the column "
                "win_probability."
            )


def check_paired(method: Method, pairs: Sequence[PreferencePair]) -> None:
    """Check that a method that compares the responses of a pair gets no unpaired rows.

    Raises:
        UserError: it does.
    """
    if method.unpaired:
        return
    unpaired = [pair for pair in pairs if pair.label is not None]
    if unpaired:
        raise UserError(
            f"Method '{method.name}' compares a chosen with a rejected response, but "
            f"{len(unpaired)} of {len(pairs)} rows have only one ({unpaired[0].pair_id}); give "
            "pairs, or use kto or bco."
        )


def check_labels(method: Method, pairs: Sequence[TokenizedPair]) -> None:
    """Check the labels of unpaired training rows, and warn if the two sides weigh too differently.

    Raises:
        UserError: all are the same.
    """
    desirable, undesirable = (
        sum(pair.label in (None, label) for pair in pairs) for label in (True, False)
    )
    if not pairs or all(pair.label is None for pair in pairs):
        return
    if not (desirable and undesirable):
        raise UserError(
            f"All {len(pairs)} training rows have the label {str(bool(desirable)).lower()}; method "
            f"'{method.name}' needs desirable and undesirable completions."
        )
    names = ("desirable_weight", "undesirable_weight")
    if not all(hasattr(method, name) for name in names):
        return
    weights: list[float] = [getattr(method, name) for name in names]
    ratio = weights[0] * desirable / (weights[1] * undesirable)
    if not LEAST_RATIO <= ratio <= LARGEST_RATIO:
        _log.warning(
            "%d desirable rows of weight %g and %d undesirable rows of weight %g have the ratio "
            "%.3g; KTO's authors advise 1 to 4/3: set desirable_weight or undesirable_weight.",
            desirable,
            weights[0],
            undesirable,
            weights[1],
            ratio,
        )


def check_steps(method: Method, args: POConfig) -> None:
    """Check that a step is not split if a method needs all of its pairs at once.

    Raises:
        UserError: it is; or a step has one pair, and the method compares pairs.
    """
    if method.divisible:
        return
    if args.gradient_accumulation_steps > 1 or args.world_size > 1:
        raise UserError(
            f"Method '{method.name}' needs all pairs of a step at once, so its results would "
            "depend on how a step is split; set gradient_accumulation_steps=1, a larger "
            "per_device_train_batch_size, and one process."
        )
    if args.per_device_train_batch_size < 2:
        raise UserError(
            f"Method '{method.name}' compares the pairs of a step, which has one; set "
            "per_device_train_batch_size to 2 or more."
        )


def check_samples(method: Method, drawn: bool) -> None:
    """Check that a method gets samples of the policy just where it needs them.

    Args:
        method: the method.
        drawn: whether the trainer draws samples.

    Raises:
        UserError: it does not, or the method needs what comes only with given pairs.
    """
    needs = method.needs
    if needs.rollout and not drawn:
        raise UserError(
            f"Method '{method.name}' is trained on samples of the policy and their rewards; use "
            "RolloutTrainer, or give --reward FILE.py:FUNCTION or --reward-model DIR."
        )
    if not drawn:
        return
    if not needs.rejected:
        raise UserError(
            f"Method '{method.name}' reads chosen responses alone, but samples are compared; train "
            "it on given pairs."
        )
    given = {
        "the probability that chosen is preferred": needs.win_probability,
        "a weight for each token of given pairs": needs.token_weights,
    }
    for what, needed in given.items():
        if needed:
            raise UserError(
                f"Method '{method.name}' needs {what}, which samples do not have; train it on "
                "given pairs."
            )
