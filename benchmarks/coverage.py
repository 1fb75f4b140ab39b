"""`python -m benchmarks.coverage`: do the tables' intervals and marks keep what they promise?

Simulates tables of several methods over chains (`tasks.metrics.chains`) from variance components,
those of a result with `--result table1.json`, and counts how often the 95 % intervals of means and
of differences contain the truth, how often a column without any difference gets a mark, and how
small a difference is found. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.components import DEFAULTS, Column, columns_of
from harness.commands.compare import read_result
from sparsepo.cli.console import say_error
from sparsepo.errors import UserError
from tasks.metrics.chains import (
    PRIOR_DF,
    ChainValues,
    compare_with,
    detectable_effect,
    estimate,
)
from tasks.metrics.significance import FloatArray, holm, row_weights

CARDS = Path(__file__).parent / "cards"
ALPHA = 0.05
SHARED_DIFFICULTY = 0.8
"""Share of an item's difficulty that is the same in all chains, where they have their items in
common."""


@dataclass(frozen=True)
class Outcome:
    """What was counted in the simulated tables of one column; shares in percent."""

    column: str
    chains: int
    crossed: bool
    prior_df: float
    means: float
    """Intervals of means that contain the truth."""
    differences: float
    """Intervals of differences that contain the truth, all rows."""
    worst: float
    """The same of the row whose difference varies most."""
    false_marks: float
    """Columns without any difference that have a mark after Holm's adjustment."""
    detectable: float
    """Median of the smallest detectable difference, in points."""


def draw_scores(
    column: Column, chains: int, generator: np.random.Generator, crossed: bool = False
) -> FloatArray:
    """Draw the outcome of every item, (methods, chains, items) of 0 and 1.

    Args:
        column: variance components.
        chains: number of chains.
        generator: of all that is random.
        crossed: whether all chains have the same items.
    """
    methods, n = len(column.method_sds), column.items
    chain = column.common_sd * generator.normal(size=(1, chains))
    own = np.array(column.method_sds)[:, None] * generator.normal(size=(methods, chains))
    level = np.clip(column.score + chain + own, -40.0, 99.9) / 100.0
    success = np.clip(column.chance + (1.0 - column.chance) * level, 1e-3, 1.0 - 1e-3)
    difficulty = generator.normal(size=(chains, n))
    if crossed:
        shared = generator.normal(size=(1, n))
        difficulty = (
            math.sqrt(SHARED_DIFFICULTY) * shared + math.sqrt(1.0 - SHARED_DIFFICULTY) * difficulty
        )
    return _outcomes(success, difficulty, column.correlation, generator)


def _outcomes(
    success: FloatArray, difficulty: FloatArray, correlation: float, generator: np.random.Generator
) -> FloatArray:
    """Draw outcomes of 0 and 1, (methods, chains, items), that share the items' difficulty.

    Args:
        success: probability of 1 of each method in each chain.
        difficulty: standard normal, (…, items).
        correlation: of two methods' latent outcomes on an item.
        generator: of what they do not share.
    """
    noise = generator.normal(size=(*success.shape, difficulty.shape[-1]))
    latent = math.sqrt(correlation) * difficulty + math.sqrt(1.0 - correlation) * noise
    outcomes: FloatArray = (latent < _threshold(success)[:, :, None]).astype(np.float64)
    return outcomes


def _threshold(share: FloatArray) -> FloatArray:
    """Return what a standard normal variable is below with the given probability."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse(one) for one in share.ravel()]).reshape(share.shape)


def item_draws(
    column: Column, chains: int, replicates: int, seed: int, crossed: bool
) -> list[FloatArray]:
    """Draw the bootstrap's items of each chain, (replicates, items); all tables may share them."""
    drawn = [
        row_weights(column.items, replicates, (seed, chain))
        for chain in range(1 if crossed else chains)
    ]
    return drawn * chains if crossed else drawn


def table_of(
    scores: FloatArray, column: Column, draws: Sequence[FloatArray], crossed: bool = False
) -> list[ChainValues]:
    """Return every method's values over chains, before flooring, with replicates over items."""
    drawn = np.stack(
        [scores[:, chain] @ own.T / column.items for chain, own in enumerate(draws)], axis=1
    )
    values, replicates = (
        100.0 * (raw - column.chance) / (1.0 - column.chance)
        for raw in (scores.mean(axis=2), drawn)
    )
    return [
        ChainValues(own, around, column.items, crossed)
        for own, around in zip(values, replicates, strict=True)
    ]


def simulate(
    column: Column,
    chains: int,
    tables: int,
    *,
    seed: int = 0,
    crossed: bool = False,
    replicates: int = 100,
    prior_dfs: Sequence[float] = (PRIOR_DF,),
) -> list[Outcome]:
    """Simulate a column without any difference between methods.

    Args:
        column: variance components.
        chains: number of chains of each table.
        tables: number of tables.
        seed: of everything random.
        crossed: whether all chains have the same items.
        replicates: bootstrap replicates over items.
        prior_dfs: values of `prior_df` of the comparisons, on the same tables.

    Returns:
        One outcome per value of `prior_df`.
    """
    generator = np.random.default_rng((seed, chains, column.items))
    draws = item_draws(column, chains, replicates, seed, crossed)
    unfloored = [
        table_of(draw_scores(column, chains, generator, crossed), column, draws, crossed)
        for _ in range(tables)
    ]
    drawn = [[_floored(sample, column) for sample in table] for table in unfloored]
    # What a method scores on average, flooring included, from all of its chains.
    truth = [float(np.mean([table[m].values for table in drawn])) for m in range(len(drawn[0]))]
    unsteady = 1 + int(np.argmax(column.method_sds[1:]))
    means = [
        found.low <= truth[m] <= found.high
        for table, free in zip(drawn, unfloored, strict=True)
        for m, sample in enumerate(table)
        for found in [estimate(sample, before_flooring=free[m])]
    ]
    outcomes = []
    for prior_df in prior_dfs:
        covered, worst, marked, effects = [], [], [], []
        for table in drawn:
            base, *rows = (_shifted(sample, -truth[m]) for m, sample in enumerate(table))
            found = compare_with(
                base, {str(m): row for m, row in enumerate(rows, 1)}, prior_df=prior_df
            )
            inside = {name: one.low <= 0.0 <= one.high for name, one in found.items()}
            covered += list(inside.values())
            worst.append(inside[str(unsteady)])
            p = holm({name: one.p for name, one in found.items() if one.p is not None})
            marked.append(min(p.values()) < ALPHA)
            effects.append(detectable_effect(found, ALPHA) or math.nan)
        outcomes.append(
            Outcome(
                column.name,
                chains,
                crossed,
                prior_df,
                means=_percent(means),
                differences=_percent(covered),
                worst=_percent(worst),
                false_marks=_percent(marked),
                detectable=float(np.median(effects)),
            )
        )
    return outcomes


def _percent(found: Sequence[bool]) -> float:
    return 100.0 * float(np.mean(found))


def _floored(sample: ChainValues, column: Column) -> ChainValues:
    if column.chance == 0.0:
        return sample
    values, replicates = np.maximum(sample.values, 0.0), np.maximum(sample.replicates, 0.0)
    return ChainValues(values, replicates, sample.items, sample.crossed)


def _shifted(sample: ChainValues, by: float) -> ChainValues:
    return ChainValues(sample.values + by, sample.replicates + by, sample.items, sample.crossed)


def coverage_of_shared_start(
    column: Column, seeds: int, tables: int, *, seed: int = 0, replicates: int = 400
) -> tuple[float, float]:
    """Count what intervals are worth if all seeds start from one base model.

    Earlier tables had training seeds that shared world and base model, and intervals that were
    percentiles of a bootstrap crossed over items and seeds. What the base model alone decides is
    the same in all seeds: here that is half of the variance of a method within a chain.

    Args:
        column: variance components.
        seeds: number of training seeds.
        tables: number of tables.
        seed: of everything random.
        replicates: of the bootstrap.

    Returns:
        Coverage of means and of differences, in percent.
    """
    generator = np.random.default_rng((seed, seeds))
    half = math.sqrt(0.5)
    (weights,) = item_draws(column, 1, replicates, seed, crossed=False)
    means: list[bool] = []
    differences: list[bool] = []
    for _ in range(tables):
        sds = np.array(column.method_sds)
        base = column.score + column.common_sd * generator.normal()
        level = base + half * sds * generator.normal(size=sds.size)
        per_seed = level[:, None] + half * sds[:, None] * generator.normal(size=(sds.size, seeds))
        success = np.clip(per_seed / 100.0, 1e-3, 1.0 - 1e-3)
        difficulty = generator.normal(size=(1, 1, column.items))
        scores = 100.0 * _outcomes(success, difficulty, column.correlation, generator)
        draws = generator.integers(0, seeds, size=(replicates, seeds))
        per_draw = scores @ weights.T / column.items
        drawn = np.stack([own.T[np.arange(replicates)[:, None], draws].mean(1) for own in per_draw])
        means += _percentiles_contain(drawn, column.score)
        differences += _percentiles_contain(drawn[1:] - drawn[0], 0.0)
    return _percent(means), _percent(differences)


def _percentiles_contain(replicates: FloatArray, truth: float) -> list[bool]:
    low, high = np.quantile(replicates, [0.025, 0.975], axis=1)
    return [bool(a <= truth <= b) for a, b in zip(low, high, strict=True)]


def markdown(columns: Sequence[Column], outcomes: Iterable[Outcome], tables: int) -> str:
    """Return the components and what was counted as two Markdown tables."""
    lines = [
        "| column | items | score | SD of chains | SD of methods within them | correlation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in columns:
        low, high = min(one.method_sds), max(one.method_sds)
        lines.append(
            f"| {one.name} | {one.items} | {one.score:.0f} | {one.common_sd:.1f} | {low:.1f}–"
            f"{high:.1f} | {one.correlation:.2f} |"
        )
    lines += [
        "",
        f"{tables} tables each; prior 0 is a t-test of each row by itself, ∞ one variance for all "
        f"rows, {PRIOR_DF:g} what tables use.",
        "",
        "| column | items | chains | prior | means % | differences % | unsteadiest row % | "
        "false marks % | detectable |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        prior = "∞" if math.isinf(o.prior_df) else f"{o.prior_df:g}"
        lines.append(
            f"| {o.column} | {'shared' if o.crossed else 'own'} | {o.chains} | {prior} | "
            f"{o.means:.1f} | {o.differences:.1f} | {o.worst:.1f} | {o.false_marks:.1f} | "
            f"{o.detectable:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; write a card with --name.

    Returns:
        The exit code, 2 for a result that cannot be used.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, help="take the components of this table's JSON")
    parser.add_argument("--chains", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crossed", action="store_true", help="the same items in all chains")
    parser.add_argument(
        "--prior", type=float, nargs="+", default=[PRIOR_DF], help="0 and inf for comparison"
    )
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    options = parser.parse_args(arguments)
    columns = list(DEFAULTS)
    if options.result is not None:
        try:
            columns = columns_of(read_result(options.result))
        except (UserError, ValueError) as error:
            say_error(str(error))
            return 2
    outcomes = [
        outcome
        for column in columns
        for chains in options.chains
        for outcome in simulate(
            column,
            chains,
            options.tables,
            seed=options.seed,
            crossed=options.crossed,
            prior_dfs=options.prior,
        )
    ]
    text = markdown(columns, outcomes, options.tables)
    print(text)
    if options.name:
        given = sys.argv[1:] if arguments is None else arguments
        command = f"python -m benchmarks.coverage {' '.join(given)}"
        facts = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "command": command,
            "versions": {name: version(name) for name in ("numpy", "scipy")},
            "columns": [asdict(column) for column in columns],
            "outcomes": [
                # JSON has no infinity.
                asdict(o) | {"prior_df": "inf" if math.isinf(o.prior_df) else o.prior_df}
                for o in outcomes
            ],
        }
        (CARDS / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        title = f"# Coverage of intervals, {facts['date']}\n\n```\n{command}\n```\n\n"
        (CARDS / f"{options.name}.md").write_text(title + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
