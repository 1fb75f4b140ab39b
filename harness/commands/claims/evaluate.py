"""What the results of a profile say of each claim: supported, contradicted or undecided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.claims.claim import Claim
from harness.commands.claims.columns import MissingQuantityError, Results
from harness.commands.claims.commands import command_of
from harness.commands.claims.predicates import Evaluator, Evidence, Part
from harness.commands.claims.statements import CLAIMS
from harness.commands.result_file import find_results
from tasks.metrics.significance import holm

ALPHA = 0.05
DIGITS = 6
SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN = "supported", "contradicted", "undecided", "not run"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN)

_NOTES = (
    "A claim is supported, or contradicted, if that remains significant after Holm's correction "
    "over both hypotheses of all claims that could be tested (α = 0.05), so that at most 5 % of "
    "such tables have any false verdict. Undecided says that these chains do not tell, not that "
    "there is no difference.",
    "Claims of equality are tested against a margin; detectable is the smallest difference beyond "
    "the tested limit that this sample would have shown with a probability of 80 %.",
)


@dataclass(frozen=True)
class _Tested:
    """A claim with its evidence, or the reason why there is none."""

    claim: Claim
    evidence: Evidence | None
    reason: str = ""


def claims_json(results_folder: Path, profile: str) -> dict[str, Any]:
    """Evaluate the paper's claims on the results at hand.

    Args:
        results_folder: the folder that holds the profiles.
        profile: which one.

    Returns:
        `claims`, one entry each; `counts` of verdicts; `left_out`, results that could not be read.
    """
    found = find_results(results_folder, profile)
    broken = {problem.name: problem.reason for problem in found.problems}
    return {
        "profile": profile,
        "alpha": ALPHA,
        **judge(CLAIMS, found.results, profile, broken),
        "left_out": [{"name": one.name, "reason": one.reason} for one in found.problems],
        "notes": list(_NOTES),
    }


def judge(
    claims: Sequence[Claim],
    results: Results,
    profile: str = "tiny",
    broken: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Evaluate claims on results, corrected over all of them.

    Args:
        claims: the claims.
        results: id of an experiment → its JSON.
        profile: for the commands that make what is missing.
        broken: id of an experiment → why its result cannot be read.

    Returns:
        `claims` and `counts`.
    """
    evaluator = Evaluator(results)
    tested = [_test(claim, results, evaluator) for claim in claims]
    adjusted = adjust(
        {
            one.claim.id: one.evidence
            for one in tested
            if one.evidence is not None and not one.reason
        }
    )
    entries = [_entry(one, results, adjusted, profile, broken or {}) for one in tested]
    counts = Counter(entry["verdict"] for entry in entries)
    return {"claims": entries, "counts": {verdict: counts[verdict] for verdict in VERDICTS}}


def adjust(evidence: Mapping[str, Evidence]) -> dict[str, tuple[float, float]]:
    """Correct the p-values of all claims, for and against, by Holm over all of them.

    At least one of a claim's two hypotheses is true, and Holm's procedure keeps the probability of
    rejecting any true one at α, however the p-values depend on each other.

    Args:
        evidence: id of a claim → what was found.

    Returns:
        Id → adjusted p-values, for and against.
    """
    both = {}
    for id, one in evidence.items():
        both[f"+{id}"], both[f"-{id}"] = one.p_for, one.p_against
    adjusted = holm(both)
    return {id: (adjusted[f"+{id}"], adjusted[f"-{id}"]) for id in evidence}


def _test(claim: Claim, results: Results, evaluator: Evaluator) -> _Tested:
    if any(id not in results for id in claim.experiments):
        return _Tested(claim, None)
    try:
        evidence = evaluator.evaluate(claim.predicate)
    except MissingQuantityError as error:
        return _Tested(claim, None, f"Not tested: {error}.")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration):
        ids = ", ".join(claim.experiments)
        return _Tested(claim, None, f"Not tested: {ids} is not as this version writes it.")
    if any(part.df is None for part in evidence.parts):
        return _Tested(
            claim, evidence, "Not tested: one chain tells no spread; run it with --seeds 3 or more."
        )
    return _Tested(claim, evidence)


def _entry(
    tested: _Tested,
    results: Results,
    adjusted: Mapping[str, tuple[float, float]],
    profile: str,
    broken: Mapping[str, str],
) -> dict[str, Any]:
    claim, evidence = tested.claim, tested.evidence
    missing = [id for id in claim.experiments if id not in results]
    p_for, p_against = adjusted.get(claim.id, (1.0, 1.0))
    verdict, reason = UNDECIDED, tested.reason
    part: Part | None = None
    p = p_holm = detectable = None
    if missing:
        verdict, reason = NOT_RUN, _why_missing(missing, broken)
    elif evidence is not None:
        against = evidence.p_against < evidence.p_for
        part = evidence.part_against if against else evidence.part_for
        factor = evidence.factor_against if against else evidence.factor_for
        if not reason:
            p = evidence.p_against if against else evidence.p_for
            p_holm = p_against if against else p_for
            detectable = part.detectable(ALPHA / (2 * len(adjusted) * factor))
            if p_holm < ALPHA:
                verdict = CONTRADICTED if against else SUPPORTED
            reason = _why(verdict, part, p_holm, len(evidence.parts))
    return {
        "id": claim.id,
        "section": claim.section,
        "where": claim.where,
        "text": claim.text,
        "means": claim.means,
        "verdict": verdict,
        "experiments": list(claim.experiments),
        "command": " && ".join(command_of(id, profile) for id in missing or claim.experiments),
        "reason": reason,
        **_numbers(part),
        "margin": claim.margin,
        "test": None if part is None or part.df is None else _test_name(part),
        "p": _rounded(p),
        "p_holm": _rounded(p_holm),
        "detectable": _rounded(detectable),
        "parts": [] if evidence is None else [_part_json(one) for one in evidence.parts],
    }


def _why_missing(missing: Sequence[str], broken: Mapping[str, str]) -> str:
    damaged = [f"{id} cannot be used: {broken[id]}" for id in missing if id in broken]
    if damaged:
        return " ".join(damaged)
    return f"There is no result of {' and '.join(missing)} yet."


def _why(verdict: str, part: Part, p_holm: float, parts: int) -> str:
    interval = f"[{part.low:.2f}, {part.high:.2f}]"
    said = f"{part.of}: " + f"{part.estimate:.2f} {interval}".replace("-", "−")
    if part.error <= 0.0:
        return f"{said} in every chain; without any spread there is no test."
    which = "" if parts == 1 else f", the deciding one of {parts} comparisons"
    corrected = "p < 0.0001" if p_holm < 0.0001 else f"p = {p_holm:.4f}"
    if verdict == UNDECIDED:
        return f"{said}, where {part.statement} is claimed{which}; {corrected} after Holm."
    shown = "as claimed" if verdict == SUPPORTED else "but claimed is"
    return f"{said}, {shown} {part.statement} ({corrected} after Holm){which}."


def _test_name(part: Part) -> str:
    kind = "moderated t" if part.pooled else "t"
    return f"one-sided {kind}, paired by chain, {part.df:.1f} degrees of freedom"


def _numbers(part: Part | None) -> dict[str, Any]:
    if part is None:
        names = ("of", "estimate", "ci95", "unit", "n", "items")
        return dict.fromkeys(names)
    return {
        "of": part.of,
        "estimate": round(part.estimate, DIGITS),
        "ci95": [round(part.low, DIGITS), round(part.high, DIGITS)],
        "unit": part.unit,
        "n": part.chains,
        "items": part.items,
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        **_numbers(part),
        "statement": part.statement,
        "p": _rounded(part.p_for),
        "p_against": _rounded(part.p_against),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
