"""The cells of win rates, and the judge's agreement, from its verdicts on every chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Cells, Statistic, are_crossed, draw_seed
from tasks.metrics.agreement import cohen_kappa
from tasks.metrics.chains import ChainValues
from tasks.metrics.preference import SCORES, combine, mirrored, shown_first
from tasks.metrics.significance import FloatArray, row_weights
from tasks.metrics.winrate import length_controlled, weighted_mean

Lines = Sequence[Mapping[str, Any]]
"""verdicts.jsonl or labels.jsonl of one chain."""


def verdict_cells(
    verdicts: Mapping[str, Sequence[Lines]],
    sources: Sequence[str],
    opponent: str,
    settings: StatisticsSettings,
    itself: str | None = None,
) -> Cells:
    """Compute the columns of one opponent.

    Args:
        verdicts: row id → the verdicts of each of its chains.
        sources: where the pairs of each chain come from; chains of one source share items.
        opponent: "chosen" or "dpo", the end of the columns' names.
        settings: replicates and seed.
        itself: the row that is the opponent, which ties with itself in every comparison.

    Returns:
        Plain and length-controlled win rates in percent; for the chosen responses also how often
        the response shown first was preferred, and the length. A cell is absent if a chain has no
        usable verdict for it.

    Raises:
        ValueError: if two rows were judged on different prompts.
    """
    if not verdicts:
        return {}
    items = {
        row: [(sources[chain], [line["pair_id"] for line in own]) for chain, own in enumerate(all)]
        for row, all in verdicts.items()
    }
    crossed = are_crossed(items, f"verdicts against {opponent}")
    longest = max(verdicts.values(), key=len)
    weights = [
        _with_ones(row_weights(len(own), settings.replicates, draw_seed(settings, chain, crossed)))
        for chain, own in enumerate(longest)
    ]
    cells: Cells = {}
    for row, chains in verdicts.items():
        own = list(zip(chains, weights, strict=False))
        columns = {
            f"win_{opponent}": [_win_rate(lines, drawn) for lines, drawn in own],
            f"controlled_{opponent}": [_controlled(lines, drawn) for lines, drawn in own],
        }
        if itself is None:
            columns["first_shown"] = [_first_shown(lines, drawn) for lines, drawn in own]
            columns["characters"] = [_characters(lines, drawn) for lines, drawn in own]
        judged = min(sum(_result(line) != "failed" for line in lines) for lines in chains)
        cells[row] = {
            column: Statistic(_sample(values, judged, crossed))
            for column, values in columns.items()
            if all(np.isfinite(value[0]) for value in values)
        }
    if itself is not None:
        chains_of = len(longest)
        even = ChainValues(
            np.full(chains_of, 50.0),
            np.full((chains_of, settings.replicates), 50.0),
            min(map(len, longest)),
            crossed,
        )
        names = (f"win_{opponent}", f"controlled_{opponent}")
        cells[itself] = {name: Statistic(even) for name in names}
    return cells


def agreement(
    labelled: Sequence[Lines],
    sources: Sequence[str],
    settings: StatisticsSettings,
    truth: str | None = None,
) -> ChainValues | None:
    """Compute Cohen's κ of the judge, with the data's labels or with a world's rules.

    A pair is rated in both orders, so that a label is as often "first" as "second", and
    agreement by chance is that of a judge who does not look.

    Args:
        labelled: labels.jsonl of each chain; the first response is the chosen one.
        sources: where the pairs of each chain come from.
        settings: replicates and seed.
        truth: None for the labels, or the field of a line with another verdict.

    Returns:
        κ of each chain; None if a chain has no usable verdict, or its κ is not defined.
    """
    crossed = len(set(sources)) == 1
    found = []
    for chain, lines in enumerate(labelled):
        drawn = row_weights(len(lines), settings.replicates, draw_seed(settings, chain, crossed))
        usable = [_result(line) != "failed" for line in lines]
        mine = [_both(_result(line)) for line, use in zip(lines, usable, strict=True) if use]
        other = [
            _both("first" if truth is None else line[truth])
            for line, use in zip(lines, usable, strict=True)
            if use
        ]
        if not mine:
            return None
        weights = _with_ones(drawn[:, usable])
        kappa = cohen_kappa(other, mine, weights)
        if not np.isfinite(kappa[0]):
            return None
        found.append(kappa)
    return _sample(found, min(map(len, labelled)), crossed)


def counts(chains: Sequence[Lines]) -> dict[str, int]:
    """Count comparisons, those without a verdict, and those whose verdict changed with the order.

    Args:
        chains: verdicts of any number of rows and chains.
    """
    lines = [line for own in chains for line in own]
    turned = [line for line in lines if line["forward"] == line["backward"] != "tie"]
    return {
        "comparisons": len(lines),
        "failed": sum(_result(line) == "failed" for line in lines),
        "order_decided": sum(line["forward"] != "failed" for line in turned),
        "prompt_tokens": sum(line["prompt_tokens"] for line in lines),
        "completion_tokens": sum(line["completion_tokens"] for line in lines),
    }


def _result(line: Mapping[str, Any]) -> Any:
    return combine(line["forward"], line["backward"])


def _both(preference: Any) -> list[Any]:
    return [preference, mirrored(preference)]


def _scores(lines: Lines) -> list[float]:
    return [SCORES[_result(line)] for line in lines]


def _with_ones(drawn: FloatArray) -> FloatArray:
    """Return the weights of the sample itself, then those of its draws."""
    return np.concatenate([np.ones((1, drawn.shape[1])), drawn])


def _win_rate(lines: Lines, drawn: FloatArray) -> FloatArray:
    return 100.0 * weighted_mean(_scores(lines), drawn)


def _controlled(lines: Lines, drawn: FloatArray) -> FloatArray:
    first = [line["first_characters"] for line in lines]
    second = [line["second_characters"] for line in lines]
    return 100.0 * length_controlled(_scores(lines), first, second, drawn)


def _first_shown(lines: Lines, drawn: FloatArray) -> FloatArray:
    points = [shown_first(line["forward"], line["backward"]) for line in lines]
    return 100.0 * weighted_mean(points, drawn)


def _characters(lines: Lines, drawn: FloatArray) -> FloatArray:
    return weighted_mean([line["first_characters"] for line in lines], drawn)


def _sample(values: Sequence[FloatArray], items: int, crossed: bool) -> ChainValues:
    """Return chains from arrays whose first element is the value, the others its replicates."""
    replicates = [
        # A draw without any usable verdict says nothing.
        np.where(np.isfinite(one[1:]), one[1:], one[0])
        for one in values
    ]
    return ChainValues(np.array([one[0] for one in values]), np.stack(replicates), items, crossed)
