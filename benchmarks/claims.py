"""`python -m benchmarks.claims`: how often do results without any effect support a claim?

Draws results of all experiments in which no method differs from another, or in which the paper's
own methods are exactly the margin of equality below or above the others, judges all claims on
them, and counts the families of claims with any false verdict. What is false follows from the
means that the results are drawn from. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.claim_families import verdicts
from benchmarks.claim_results import all_results
from harness.commands.claims.claim import MASKED, SCORE_MARGIN
from harness.commands.claims.predicates import Evaluator
from harness.commands.claims.statements import CLAIMS
from tasks.metrics.significance import FloatArray

CARDS = Path(__file__).parent / "cards"
SCENARIOS = {
    "no effect": 0.0,
    "at the margin, below": -SCORE_MARGIN,
    "at the margin, above": SCORE_MARGIN,
    "10 points above": 10.0,
}
"""Name → how far the paper's own methods are above the others, in points."""
_LEVEL = 50.0
_CHAIN_SD = 4.0
_ROW_SDS = (0.5, 2.0)
"""Standard deviations within a chain, of the steadiest and of the least steady row."""


@dataclass
class Counted:
    """What was counted in one scenario."""

    scenario: str
    chains: int
    families: int
    false_claims: int
    """Claims that are false in this scenario."""
    with_false_support: int = 0
    """Families with any false claim that is called supported."""
    with_false_contradiction: int = 0
    """Families with any true claim that is called contradicted."""
    true_support: float = 0.0
    """Mean number of true claims that are called supported."""
    by_claim: dict[str, int] = field(default_factory=dict)
    """Claim → how often it was falsely supported."""


class _World:
    """Values of every row and column, as `benchmarks.claim_results` asks for them.

    The chains of all families are drawn side by side: C of the first, C of the second, and so on.
    """

    def __init__(
        self, effect: float, families: int, chains: int, generator: np.random.Generator | None
    ) -> None:
        self.effect, self.shape, self.generator = effect, (families, chains), generator
        self.common: dict[str, FloatArray] = {}
        self.spread: dict[str, FloatArray] = {}

    def __call__(self, row: str, column: str) -> FloatArray:
        truth = np.full(self.shape, _LEVEL + (self.effect if row in MASKED else 0.0))
        if self.generator is None:
            return truth.ravel()
        if column not in self.common:
            self.common[column] = _CHAIN_SD * self.generator.normal(size=self.shape)
        if row not in self.spread:
            self.spread[row] = self.generator.uniform(*_ROW_SDS, size=(self.shape[0], 1))
        own = self.spread[row] * self.generator.normal(size=self.shape)
        drawn: FloatArray = truth + self.common[column] + own
        return drawn.ravel()


def simulate(
    scenario: str,
    chains: int,
    families: int,
    seed: int = 0,
    progress: Callable[[int], object] = lambda judged: None,
) -> Counted:
    """Count false verdicts in drawn results.

    Args:
        scenario: a name of `SCENARIOS`.
        chains: number of chains of every experiment.
        families: how many times all claims are judged.
        seed: of everything random.
        progress: told how many more families have been judged.

    Returns:
        The counts.
    """
    effect = SCENARIOS[scenario]
    truth = Evaluator(all_results(_World(effect, 1, 1, None)))
    claims = [claim for claim in CLAIMS if claim.id not in _UNTESTED]
    true = np.array([truth.holds(claim.predicate) for claim in claims])
    counted = Counted(scenario, chains, families, int((~true).sum()))
    wrong = np.zeros(len(claims), dtype=int)
    found_true = 0
    for start in range(0, families, BATCH):
        count = min(BATCH, families - start)
        results = drawn_results(scenario, chains, count, (seed, start))
        supported, contradicted = verdicts(claims, results, count)
        falsely = supported & ~true[:, None]
        wrong += falsely.sum(axis=1)
        counted.with_false_support += int(falsely.any(axis=0).sum())
        counted.with_false_contradiction += int((contradicted & true[:, None]).any(axis=0).sum())
        found_true += int((supported & true[:, None]).sum())
        progress(count)
    counted.true_support = found_true / families
    counted.by_claim = {
        claim.id: int(times) for claim, times in zip(claims, wrong, strict=True) if times
    }
    return counted


def drawn_results(
    scenario: str, chains: int, families: int, seed: tuple[int, int]
) -> dict[str, dict[str, Any]]:
    """Draw the results of several families, whose chains follow one another in every cell.

    Args:
        scenario: a name of `SCENARIOS`.
        chains: number of chains of each family.
        families: number of families.
        seed: of everything random.
    """
    generator = np.random.default_rng((*seed, chains))
    return all_results(_World(SCENARIOS[scenario], families, chains, generator))


BATCH = 50
"""Families that are judged at a time."""
_UNTESTED = ("F4.kl", "D.domain")
"""Claims that no result can test."""


def markdown(outcomes: Sequence[Counted]) -> str:
    """Return what was counted as a Markdown table."""
    lines = [
        "| scenario | chains | families | false claims | any falsely supported % | any falsely "
        "contradicted % | true claims supported |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in outcomes:
        supported = 100.0 * one.with_false_support / one.families
        contradicted = 100.0 * one.with_false_contradiction / one.families
        lines.append(
            f"| {one.scenario} | {one.chains} | {one.families} | {one.false_claims} | "
            f"{supported:.1f} | {contradicted:.1f} | {one.true_support:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; write a card with --name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--families", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    options = parser.parse_args(arguments)
    designs = [(scenario, chains) for scenario in SCENARIOS for chains in options.chains]
    # Designs that are done are kept for a run of the same name and options that was interrupted.
    kept = CARDS / f"{options.name}.part.json"
    made_with = [options.families, options.seed]
    outcomes = _read_part(kept, made_with) if options.name else []
    done = [(one.scenario, one.chains) for one in outcomes]
    with tqdm(total=len(designs) * options.families, unit="family", mininterval=1.0) as bar:
        bar.update(len(done) * options.families)
        for scenario, chains in designs:
            if (scenario, chains) in done:
                continue
            outcomes.append(simulate(scenario, chains, options.families, options.seed, bar.update))
            if options.name:
                part = {"made_with": made_with, "outcomes": [asdict(one) for one in outcomes]}
                kept.write_text(json.dumps(part))
    text = markdown(outcomes)
    print(text)
    if options.name:
        given = sys.argv[1:] if arguments is None else arguments
        command = f"python -m benchmarks.claims {' '.join(given)}"
        facts: Mapping[str, object] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "command": command,
            "versions": {name: version(name) for name in ("numpy", "scipy")},
            "chain_sd": _CHAIN_SD,
            "row_sds": _ROW_SDS,
            "outcomes": [asdict(one) for one in outcomes],
        }
        (CARDS / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        title = f"# Verdicts on claims, simulated, {facts['date']}\n\n```\n{command}\n```\n\n"
        (CARDS / f"{options.name}.md").write_text(title + text)
        kept.unlink(missing_ok=True)
    return 0


def _read_part(file: Path, made_with: Sequence[int]) -> list[Counted]:
    """Return the designs that an interrupted run has finished with the same options."""
    if not file.exists():
        return []
    part = json.loads(file.read_text())
    same = part["made_with"] == list(made_with)
    return [Counted(**one) for one in part["outcomes"]] if same else []


if __name__ == "__main__":
    sys.exit(main())
