"""The start check: do packed rows give the same results as the model's own forward pass?

Before the first step, a few pairs go through the model's own forward pass, with a separate call for
each response and without padding or mask, and through the packed, fused form that training uses.
The cause of a difference is then diagnosed: the head, the attention or the positions of packed
rows, in the policy or in the reference.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo.batches.pack import pack_pairs, packed_length
from sparsepo.distributed.processes import collected, maximum
from sparsepo.errors import UserError, first_line
from sparsepo.methods.base import Method, Needs
from sparsepo.models.adapters import evaluate_as
from sparsepo.models.plain import Computation, pairwise_sums
from sparsepo.models.tolerance import tolerance_of
from sparsepo.reference.online import Reference, unwrap_peft
from sparsepo.training.diagnosis import Cause, find_cause
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.training.probe_pairs import longest_pair, short_pairs, swap_responses
from sparsepo.types import TokenizedPair

ROUNDING_MULTIPLE = 20
"""The tolerance is at most this many times the largest difference that padding alone makes."""

LEAST_SHARE = 0.1
"""The tolerance is at least this share of the value in TOLERANCE."""

LEAK_SHARE = 0.01
"""Share of the tolerance by which other tokens in a row may change a log-probability. Its sums have
the same terms in the same order, and are equal to the last bit on most devices."""

MEAN_SHARE = 0.2
"""Share of the tolerance that the mean over tokens may reach: rounding affects single tokens, but a
wrong computation affects many."""

START_CHECK = "start_check_max_difference"
"""The difference's name in the log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartCheck:
    """The result of the start check."""

    computation: Computation
    """The form that training uses."""
    difference: float
    """Largest difference between a token's log-probability in that form and in the model's own
    forward pass, in nats, of policy and reference."""
    tolerance: float


@dataclass
class Subject:
    """The policy and reference that are checked, and how they are run."""

    module: PolicyWithMasks
    reference: Reference | None
    method: Method
    call: Callable[..., Any] | None = None
    """The module as wrapped for several processes; None for the module itself."""
    accelerator: Accelerator | None = None
    """Connects the run's processes; None if there is only one."""
    chunk_size: int | None = None
    sharded: bool = False
    """Whether no process holds all weights, which are gathered only in `call`."""
    tolerance: float = field(init=False)

    def __post_init__(self) -> None:
        models = [self.policy] if self.reference is None else [self.policy, self.reference.model]
        self.tolerance = max(tolerance_of(model, self.accelerator) for model in models)

    @property
    def policy(self) -> PreTrainedModel:
        """The policy without adapters around it."""
        return unwrap_peft(self.module.policy)

    def largest(self, values: Tensor) -> float:
        """Return the largest number over all processes."""
        if self.accelerator is None:
            return float(values.max())
        return maximum(self.accelerator, values)

    def problems(self, problem: str | None) -> list[str]:
        """Return the problems of all processes."""
        everyone = [problem]
        if self.accelerator is not None:
            everyone = collected(self.accelerator, everyone)
        return [text for text in everyone if text is not None]

    def compute_as(self, computation: Computation) -> None:
        """Set the form in which policy and reference are computed."""
        self.module.computation = computation
        if self.reference is not None:
            self.reference.computation = computation

    def values(
        self, pairs: Sequence[TokenizedPair], needs: Needs, computation: Computation
    ) -> dict[str, Tensor]:
        """Return log-probabilities (and KL) of all response tokens, (N,) each.

        Args:
            pairs: the pairs.
            needs: the statistics to compute.
            computation: the form; in the packed form all pairs share a row.
        """
        before = self.module.computation
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        if self.accelerator is not None:
            autocast = self.accelerator.autocast
        batch = pack_pairs(
            pairs,
            tokens_per_row=sum(packed_length(pair) for pair in pairs),
            share_prompt=computation == "packed",
            rejected=needs.rejected,
        ).to(self.policy.device if self.accelerator is None else self.accelerator.device)
        self.compute_as(computation)
        try:
            with torch.no_grad(), autocast(), pairwise_sums():
                states = None
                if self.reference is not None and needs.ref_logps:
                    states = self.reference.read(batch, self.method, needs)
                call = self.call if self.call is not None else self.module
                sides = call(batch, states, needs, self.chunk_size)
        finally:
            self.compute_as(before)
        found: dict[str, list[Tensor]] = {}
        for stats in sides:
            for name in ("policy_logps", "ref_logps", "kl"):
                value = None if stats is None else getattr(stats, name)
                if value is not None:
                    found.setdefault(name, []).append(value[stats.response_mask.bool()])
        return {name: torch.cat(parts) for name, parts in found.items()}


def check_start_of(
    subject: Subject,
    pairs: Sequence[TokenizedPair],
    computation: Literal["auto", "packed", "plain"],
    epochs: float = 1.0,
) -> StartCheck:
    """Compare the form that training uses with the model's own forward pass, and choose the form.

    Policy and reference are set to the chosen form.

    Args:
        subject: policy and reference, on their device.
        pairs: the training pairs, at least one; the same in every process.
        computation: if packed rows are wrong, "packed" raises an error and "auto" continues with
            the reference implementation.
        epochs: number of training epochs, which bounds the cost of the check.

    Raises:
        UserError: the requested form gives results that differ from the model's.
    """
    has_reference = subject.reference is not None
    kl = has_reference and subject.method.needs.kl
    needs = Needs(ref_logps=has_reference, kl=kl)
    with _evaluated(subject.module):
        short = short_pairs(pairs)
        own = _own(subject, short, needs)
        padded_needs = _policy_only(needs) if _same_architecture(subject) else needs
        padded = _padded_difference(subject, short, padded_needs, own)
        narrow = max(LEAST_SHARE * subject.tolerance, ROUNDING_MULTIPLE * padded.largest)
        subject.tolerance = min(subject.tolerance, narrow)
        if computation != "plain":
            problem, difference = _packed_problem(subject, short, needs, own)
            problem = problem or _leak(subject, short, needs)
            long = None if problem else longest_pair(pairs, subject.policy, epochs)
            if long is not None:
                needs = padded_needs
                # Checks the rejected response, which has another response before it in its row.
                alone = replace(needs, rejected=False)
                own_long = _own(subject, [swap_responses(long)], alone)
                problem, further = _packed_problem(subject, [long], needs, own_long)
                difference = max(difference, further)
            if problem is None:
                subject.compute_as("packed")
                return _logged(StartCheck("packed", difference, subject.tolerance), subject)
            if computation == "packed":
                raise UserError(f"{problem}; set computation=plain, or auto.")
            if _is_main(subject):
                _log.warning(
                    "%s; the reference implementation is used instead (computation=plain), which "
                    "takes more time and memory.",
                    problem,
                )
        return _logged(_choose_plain(subject, padded), subject)


def _policy_only(needs: Needs) -> Needs:
    return replace(needs, ref_logps=False, kl=False)


def _own(subject: Subject, pairs: Sequence[TokenizedPair], needs: Needs) -> dict[str, Tensor]:
    found, problem = _attempt(lambda: subject.values(pairs, needs, "alone"))
    problems = subject.problems(problem)
    if problems:
        name = type(subject.policy).__name__
        raise UserError(
            f"The model's own forward pass ({name}) fails on the data ({problems[0]}); check the "
            "model and its tokenizer."
        )
    assert found is not None
    return found


def _attempt(run: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor] | None, str | None]:
    try:
        return run(), None
    except torch.OutOfMemoryError:
        raise
    except UserError as error:
        return None, str(error).rstrip(".")
    except Exception as error:
        # A model that cannot run these rows may raise any of a dozen exceptions.
        return None, f"{type(error).__name__}: {first_line(error)}"


def _packed_problem(
    subject: Subject, pairs: Sequence[TokenizedPair], needs: Needs, own: dict[str, Tensor]
) -> tuple[str | None, float]:
    """Return the problem of the packed form, or None, and the largest difference."""
    models = [("policy", subject.policy, subject.module.output_head)]
    if subject.reference is not None:
        models.append(("reference", subject.reference.model, subject.reference.output_head))
    for which, model, head in models:
        if head.unknown:
            return _sentence(which, model, Cause.HEAD, None), torch.inf
    found, problem = _attempt(lambda: subject.values(pairs, needs, "packed"))
    problems = subject.problems(problem)
    if problems:
        policy_only = _policy_only(needs)
        _, problem = _attempt(lambda: subject.values(pairs, policy_only, "packed"))
        which, model, _ = models[0 if subject.problems(problem) else -1]
        return _sentence(which, model, Cause.REFUSED, problems[0]), torch.inf
    assert found is not None
    differences = {
        name: _difference(subject, values, found[name][-len(values) :])
        for name, values in own.items()
    }
    largest = max(difference.largest for difference in differences.values())
    wrong = [name for name, value in differences.items() if not value.within(subject.tolerance)]
    if not wrong:
        return None, largest
    which, model, head = models[0 if "policy_logps" in wrong else -1]
    cause = Cause.PACKED
    if not subject.sharded:
        with torch.no_grad(), pairwise_sums():
            cause = find_cause(model, head, pairs, subject.tolerance)
    return _sentence(which, model, cause, f"{largest:.2g} nats on a token"), largest


def _sentence(which: str, model: PreTrainedModel, cause: Cause, detail: str | None) -> str:
    text = cause.value + ("" if detail is None else f" ({detail})")
    return f"The {which} ({type(model).__name__}) {text}"


def _leak(subject: Subject, pairs: Sequence[TokenizedPair], needs: Needs) -> str | None:
    """Return the problem if a sequence attends to another one in its row; otherwise None."""
    needs = _policy_only(needs)
    first = pairs[0]
    changed = replace(first, chosen_ids=[max(1, token - 1) for token in first.chosen_ids])
    before, after = (
        subject.values(some, needs, "packed")["policy_logps"][len(first.chosen_ids) :]
        for some in (pairs, [changed, *pairs[1:]])
    )
    largest = _difference(subject, before, after).largest
    if largest <= LEAK_SHARE * subject.tolerance:
        return None
    return _sentence("policy", subject.policy, Cause.ATTENTION, f"{largest:.2g} nats on a token")


class Difference(NamedTuple):
    """The difference between log-probabilities of the same tokens, in nats."""

    largest: float
    mean: float

    def within(self, tolerance: float) -> bool:
        """Return whether the difference can be explained by rounding."""
        return self.largest <= tolerance and self.mean <= MEAN_SHARE * tolerance


def _difference(subject: Subject, own: Tensor, found: Tensor) -> Difference:
    """Return the difference between two forms, the same in all processes."""
    difference = torch.where(own == found, 0.0, (own - found).abs())
    if not bool(own.isfinite().all()):
        # Another check reports a model that is broken on these tokens. In a packed row its values
        # also reach neighbouring sequences.
        difference = torch.where(own.isfinite() & found.isfinite(), difference, 0.0)
    difference = difference.nan_to_num(nan=torch.inf)
    return Difference(subject.largest(difference), subject.largest(difference.mean()))


def _padded_difference(
    subject: Subject, pairs: Sequence[TokenizedPair], needs: Needs, own: dict[str, Tensor]
) -> Difference:
    """Return the difference between padded rows and separate rows."""
    found, problem = _attempt(lambda: subject.values(pairs, needs, "plain"))
    if subject.problems(problem) or found is None:
        return Difference(torch.inf, torch.inf)
    both = [_difference(subject, own[name], found[name]) for name in found]
    return Difference(max(one.largest for one in both), max(one.mean for one in both))


def _choose_plain(subject: Subject, padded: Difference) -> StartCheck:
    """Choose padded rows, or separate forward passes if padding changes a model's results."""
    if padded.within(subject.tolerance):
        subject.compute_as("plain")
        return StartCheck("plain", padded.largest, subject.tolerance)
    name = type(subject.policy).__name__
    if subject.method.needs.mask != "none":
        raise UserError(
            f"The policy ({name}) computes different log-probabilities for a sequence in padded "
            f"rows than alone, and {subject.method.title} reads its masks from padded rows; use a "
            "method without masks, such as dpo or tdpo1."
        )
    if _is_main(subject):
        _log.warning(
            "The policy (%s) computes different log-probabilities for a sequence in padded rows "
            "(%.2g nats on a token) than alone; every response gets a separate forward pass.",
            name,
            padded.largest,
        )
    subject.compute_as("alone")
    return StartCheck("alone", 0.0, subject.tolerance)


def _logged(result: StartCheck, subject: Subject) -> StartCheck:
    if _is_main(subject):
        _log.info(
            "Start check: the %s form differs from the model's own forward pass by at most %.2g "
            "nats on a token (tolerance %g).",
            result.computation,
            result.difference,
            result.tolerance,
        )
    return result


def _is_main(subject: Subject) -> bool:
    return subject.accelerator is None or subject.accelerator.is_main_process


def _same_architecture(subject: Subject) -> bool:
    """Return whether policy and reference have the same architecture and configuration."""
    reference = subject.reference
    if reference is None:
        return True
    configs = [model.config.to_dict() for model in (subject.policy, reference.model)]
    for config in configs:
        config.pop("_name_or_path", None)
    return type(subject.policy) is type(reference.model) and configs[0] == configs[1]


@contextlib.contextmanager
def _evaluated(module: PolicyWithMasks) -> Iterator[None]:
    """Disable dropout inside; random state and training modes are restored afterwards."""
    modes = {part: part.training for part in module.modules()}
    device = next(module.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        module.eval()
        evaluate_as(unwrap_peft(module.policy), True)
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
