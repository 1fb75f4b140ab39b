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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.claim_results import all_results
from harness.commands.claims.claim import MASKED, SCORE_MARGIN
from harness.commands.claims.evaluate import CONTRADICTED, SUPPORTED, judge
from harness.commands.claims.predicates import Evaluator
from harness.commands.claims.statements import CLAIMS

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
    """Values of every row and column, as `benchmarks.claim_results` asks for them."""

    def __init__(self, effect: float, chains: int, generator: np.random.Generator | None) -> None:
        self.effect, self.chains, self.generator = effect, chains, generator
        self.common: dict[str, np.ndarray] = {}
        self.spread: dict[str, float] = {}

    def __call__(self, row: str, column: str) -> Sequence[float]:
        truth = _LEVEL + (self.effect if row in MASKED else 0.0)
        if self.generator is None:
            values: list[float] = [truth] * self.chains
            return values
        if column not in self.common:
            self.common[column] = _CHAIN_SD * self.generator.normal(size=self.chains)
        if row not in self.spread:
            self.spread[row] = float(self.generator.uniform(*_ROW_SDS))
        own = self.spread[row] * self.generator.normal(size=self.chains)
        drawn: list[float] = (truth + self.common[column] + own).tolist()
        return drawn


def simulate(scenario: str, chains: int, families: int, seed: int = 0) -> Counted:
    """Count false verdicts in drawn results.

    Args:
        scenario: a name of `SCENARIOS`.
        chains: number of chains of every experiment.
        families: how many times all claims are judged.
        seed: of everything random.

    Returns:
        The counts.
    """
    effect = SCENARIOS[scenario]
    truth = Evaluator(all_results(_World(effect, 1, None)))
    true = {c.id: truth.holds(c.predicate) for c in CLAIMS if c.id not in _UNTESTED}
    counted = Counted(scenario, chains, families, sum(not holds for holds in true.values()))
    wrong: Counter[str] = Counter()
    found_true = 0
    for family in range(families):
        generator = np.random.default_rng((seed, chains, family))
        judged = judge(CLAIMS, all_results(_World(effect, chains, generator)))
        verdicts = {entry["id"]: entry["verdict"] for entry in judged["claims"]}
        falsely = [id for id, holds in true.items() if not holds and verdicts[id] == SUPPORTED]
        wrong.update(falsely)
        counted.with_false_support += bool(falsely)
        counted.with_false_contradiction += any(
            verdicts[id] == CONTRADICTED for id, holds in true.items() if holds
        )
        found_true += sum(verdicts[id] == SUPPORTED for id, holds in true.items() if holds)
    counted.true_support = found_true / families
    counted.by_claim = dict(wrong)
    return counted


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
    outcomes = [
        simulate(scenario, chains, options.families, options.seed)
        for scenario in SCENARIOS
        for chains in options.chains
    ]
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
