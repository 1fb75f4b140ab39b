"""Two results of one experiment, cell by cell: do they say the same?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from harness.commands.result_file import read_result_file
from harness.render.columns import mark, parts_of, row_id
from sparsepo.errors import UserError
from tasks.metrics.chains import prediction_interval
from tasks.metrics.significance import LEVEL, holm

_DIGITS = 6
_SHOWN_SETTINGS = 6


@dataclass(frozen=True)
class CellComparison:
    """One cell of both results."""

    row: str
    column: str
    means: tuple[float, float]
    difference: float
    """Second minus first."""
    ci95: tuple[float, float]
    """Welch's interval of the difference."""
    p: float
    inside: tuple[bool, bool]
    """Whether each mean lies in the other's 95 % prediction interval."""

    @property
    def consistent(self) -> bool:
        """Return whether both means lie where the other result expects them."""
        return all(self.inside)


@dataclass(frozen=True)
class MarkComparison:
    """One mark of both results; empty where a difference is not significant."""

    row: str
    column: str
    baseline: str
    marks: tuple[str, str]

    @property
    def agree(self) -> bool:
        """Return whether both results have the same mark, or none."""
        return self.marks[0] == self.marks[1]

    @property
    def opposite(self) -> bool:
        """Return whether a significant gain in one result is a significant loss in the other."""
        return not self.agree and all(self.marks)


@dataclass(frozen=True)
class ResultComparison:
    """All cells and marks that two results have in common."""

    id: str
    profile: str
    chains: tuple[int, int]
    cells: Sequence[CellComparison]
    marks: Sequence[MarkComparison]
    skipped: int
    """Cells that one of the results has from a single chain, or not at all."""
    settings: Mapping[str, tuple[Any, Any]]
    """Settings that differ, by dotted name."""

    def summary(self) -> dict[str, Any]:
        """Return counts and shares; shares are in percent."""
        inside = [found for cell in self.cells for found in cell.inside]
        adjusted = holm({f"{i}": cell.p for i, cell in enumerate(self.cells)})
        return {
            "cells": len(self.cells),
            "means_inside": round(100.0 * float(np.mean(inside)), 1),
            "different": sum(cell.p < 1.0 - LEVEL for cell in self.cells),
            "different_holm": sum(p < 1.0 - LEVEL for p in adjusted.values()),
            "marks": len(self.marks),
            "marks_agree": round(100.0 * float(np.mean([m.agree for m in self.marks])), 1)
            if self.marks
            else None,
            "marks_opposite": sum(one.opposite for one in self.marks),
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "id": self.id,
            "profile": self.profile,
            "chains": list(self.chains),
            "summary": self.summary(),
            "settings": {name: list(values) for name, values in self.settings.items()},
            "skipped": self.skipped,
            "cells": [asdict(cell) | {"consistent": cell.consistent} for cell in self.cells],
            "marks": [
                asdict(one) | {"agree": one.agree, "opposite": one.opposite} for one in self.marks
            ],
        }


def read_result(file: Path) -> dict[str, Any]:
    """Return a result's JSON.

    Raises:
        UserError: if the file cannot be read or holds no table with the values of every chain.
    """
    result = read_result_file(file, ("id", "profile"))
    cells = list(_cells(result).values()) if "significance" in result else []
    if not cells:
        raise UserError(f"{file} has no table of values to compare.")
    if not all("per_chain" in cell for cell in cells):
        raise UserError(
            f"{file} was written by an older version, without the values of each chain; run "
            f"{result['id']} again, which reuses what it can from the store."
        )
    if not any(len(cell["per_chain"]) > 1 for cell in cells):
        raise UserError(
            f"{file} has a single chain, whose luck is unknown; run {result['id']} with --seeds 2 "
            "or more."
        )
    return result


def compare_results(first: Path, second: Path) -> ResultComparison:
    """Compare two results of one experiment and profile.

    A mean is expected in the prediction interval that the other result's chains give for the mean
    of as many chains as it has; the difference is tested by Welch's t-test.

    Args:
        first: JSON of a run.
        second: JSON of another run, with other chains.

    Returns:
        The cells and marks that both have.

    Raises:
        UserError: if a file is no result, or the two are not of one experiment.
    """
    one, two = read_result(first), read_result(second)
    for key in ("id", "profile"):
        if one[key] != two[key]:
            what = "experiments" if key == "id" else "profiles"
            raise UserError(
                f"{first} is of {one[key]} and {second} of {two[key]}; different {what} cannot be "
                "compared."
            )
    cells = (_cells(one), _cells(two))
    names = list(dict.fromkeys([*cells[0], *cells[1]]))
    common = [
        name
        for name in names
        if all(name in own and len(own[name]["per_chain"]) > 1 for own in cells)
    ]
    if not common:
        raise UserError(f"{first} and {second} have no cell in common.")
    labels = _labels(one)
    marks = (_marks(one), _marks(two))
    return ResultComparison(
        one["id"],
        one["profile"],
        (_chains(cells[0]), _chains(cells[1])),
        [_compare_cell(labels, name, cells[0][name], cells[1][name]) for name in common],
        [
            MarkComparison(
                labels.get(row, row),
                one["column_labels"].get(column, column),
                labels.get(baseline, baseline),
                (marks[0][row, column, baseline], marks[1][row, column, baseline]),
            )
            for row, column, baseline in marks[0]
            if (row, column, baseline) in marks[1]
        ],
        len(names) - len(common),
        _different_settings(one, two),
    )


def report_lines(found: ResultComparison) -> Iterator[str]:
    """Yield the comparison as text, one line per cell, differences of marks, and a summary."""
    rows = max(len("row"), *(len(cell.row) for cell in found.cells))
    columns = max(len("column"), *(len(cell.column) for cell in found.cells))
    yield (
        f"{'row':<{rows}}  {'column':<{columns}}  {'first':>8}  {'second':>8}  "
        f"{'difference':>10}  {'95 % interval':>18}  {'p':>6}"
    )
    for cell in found.cells:
        low, high = cell.ci95
        yield (
            f"{cell.row:<{rows}}  {cell.column:<{columns}}  {cell.means[0]:>8.2f}  "
            f"{cell.means[1]:>8.2f}  {cell.difference:>+10.2f}  "
            f"{f'[{low:.1f}, {high:.1f}]':>18}  {cell.p:>6.3f}"
            f"{'' if cell.consistent else '  outside the prediction interval'}"
        )
    for one in found.marks:
        if not one.agree:
            shown = " and ".join(text or "no mark" for text in one.marks)
            kind = "opposite marks" if one.opposite else "different marks"
            yield f"{kind} against {one.baseline}: {one.row}, {one.column}: {shown}"
    if found.settings:
        listed = ", ".join(
            f"{name} {first} and {second}"
            for name, (first, second) in list(found.settings.items())[:_SHOWN_SETTINGS]
        )
        more = len(found.settings) - _SHOWN_SETTINGS
        yield f"settings that differ: {listed}{f' and {more} more' if more > 0 else ''}"
    if found.skipped:
        yield f"not compared, absent or from a single chain in one result: {found.skipped} cells"
    counts = found.summary()
    marks = (
        f"; {counts['marks_agree']:.1f} % of {counts['marks']} marks agree, "
        f"{counts['marks_opposite']} turn into their opposite"
        if found.marks
        else ""
    )
    yield (
        f"{found.id}, {found.chains[0]} and {found.chains[1]} chains: {counts['means_inside']:.1f} "
        f"% of means lie in the other result's 95 % prediction interval; {counts['different']} of "
        f"{counts['cells']} cells differ (p < 0.05), {counts['different_holm']} after Holm{marks}"
    )


def _compare_cell(
    labels: Mapping[str, str], name: tuple[str, str], one: Mapping[str, Any], two: Mapping[str, Any]
) -> CellComparison:
    row, column = name
    values = [np.asarray(cell["per_chain"], dtype=np.float64) for cell in (one, two)]
    means = (float(values[0].mean()), float(values[1].mean()))
    difference = means[1] - means[0]
    if all(np.ptp(own) == 0.0 for own in values):
        low = high = difference
        p = 1.0 if difference == 0.0 else 0.0
    else:
        with warnings.catch_warnings():
            # Where the chains of one result are equal, its variance is 0 to the last bit or so.
            warnings.simplefilter("ignore", RuntimeWarning)
            tested = ttest_ind(values[1], values[0], equal_var=False)
        p = float(tested.pvalue)
        low, high = (float(end) for end in tested.confidence_interval(LEVEL))
    inside = []
    for own, other in ((0, 1), (1, 0)):
        least, most = prediction_interval(values[other].tolist(), values[own].size)
        inside.append(bool(least <= means[own] <= most))
    return CellComparison(
        labels.get(row, row),
        labels.get(column, column),
        (round(means[0], _DIGITS), round(means[1], _DIGITS)),
        round(difference, _DIGITS),
        (round(low, _DIGITS), round(high, _DIGITS)),
        round(p, _DIGITS),
        (inside[0], inside[1]),
    )


def _cells(result: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {
        (row_id(row), column): cell
        for block in parts_of(result)
        for row in block["rows"]
        for column, cell in row["values"].items()
        if cell is not None
    }


def _marks(result: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    return {
        (row_id(entry), entry["column"], entry["baseline"]): mark(result, entry)
        for block in parts_of(result)
        for entry in block["significance"]
    }


def _labels(result: Mapping[str, Any]) -> dict[str, str]:
    rows = {row_id(row): row["label"] for block in parts_of(result) for row in block["rows"]}
    return {**result["column_labels"], **rows}


def _chains(cells: Mapping[tuple[str, str], Mapping[str, Any]]) -> int:
    return max(len(cell["per_chain"]) for cell in cells.values())


def _different_settings(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    flat = [flat_settings(result["provenance"]["settings"]) for result in (one, two)]
    names = dict.fromkeys([*flat[0], *flat[1]])
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    }


def flat_settings(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name.

    Args:
        settings: a profile's settings, as a result's provenance holds them.
        before: beginning of every name.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat_settings(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found
