"""The samples of an experiment as scripts of bounded size, which a page loads one by one.

A page that is opened as a file cannot read other files but as scripts. Each script calls one
function with one text of JSON, which the page parses: nothing in it can run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.domains.common.samples import read_samples_file
from sparsepo.analysis.quantities import COLOURS, QUANTITIES

PAGE_SAMPLES, PAGE_CHARACTERS = 100, 250_000
"""A script ends after as many samples, or characters, whichever comes first."""

START = 100
"""Characters of a prompt that the list of samples shows."""


@dataclass(frozen=True)
class Made:
    """The viewer's data, as its page describes them."""

    count: int
    """Samples in the viewer."""
    found: int
    """Samples of the experiment."""
    mapped: int
    """Samples with a token map."""
    pages: int
    summary: Sequence[Mapping[str, Any]]
    """Group by group and row by row, the mean of each score."""
    scores: Mapping[str, str]


@dataclass
class _Index:
    """What the page knows of all samples before it loads any."""

    ids: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    chains: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    """ "row score" → the value of each sample's first response of the row."""


def write_samples(file: Path, folder: Path) -> Made:
    """Write index.js, and the samples in 0001.js, 0002.js and so on.

    Args:
        file: an experiment's file of samples.
        folder: the scripts' folder, which does not exist.

    Returns:
        What was written.

    Raises:
        UserError: the file cannot be read.
        KeyError, TypeError, ValueError: it does not have the shape of this version.
    """
    head, samples = read_samples_file(file)
    rows, scores = dict(head["rows"]), dict(head["scores"])
    index = _Index(values={f"{row} {score}": [] for row in rows for score in scores})
    means = _Means()
    folder.mkdir(parents=True)
    page: list[str] = []
    size = pages = mapped = 0
    for sample in samples:
        text = json.dumps(sample, separators=(",", ":"), allow_nan=False)
        if page and (len(page) == PAGE_SAMPLES or size + len(text) > PAGE_CHARACTERS):
            pages += 1
            _write_page(folder, pages, page)
            page, size = [], 0
        page.append(text)
        size += len(text)
        _add(index, sample, pages + 1)
        means.add(sample)
        mapped += any(response["tokens"] for response in sample["responses"])
    if page:
        pages += 1
        _write_page(folder, pages, page)
    data = {
        "rows": rows,
        "scores": scores,
        "ids": index.ids,
        "starts": index.starts,
        "groups": _coded(index.groups),
        "chains": _coded(index.chains),
        "pages": index.pages,
        "values": {key: own for key, own in index.values.items() if _orders(own)},
        **(_token_quantities() if mapped else {}),
    }
    (folder / "index.js").write_text(_script("index", data), encoding="ascii")
    return Made(len(index.ids), head["samples"], mapped, pages, means.lines(rows, scores), scores)


def _write_page(folder: Path, number: int, samples: Sequence[str]) -> None:
    text = f'{{"page":{number},"samples":[{",".join(samples)}]}}'
    (folder / f"{number:04d}.js").write_text(_call("page", text), encoding="ascii")


def _script(name: str, data: Mapping[str, Any]) -> str:
    return _call(name, json.dumps(data, separators=(",", ":"), allow_nan=False))


def _call(name: str, text: str) -> str:
    """Return a script that hands over a text; as ASCII it means the same in every encoding."""
    return f"sparsepoSamples.{name}({json.dumps(text)});\n"


def _add(index: _Index, sample: Mapping[str, Any], page: int) -> None:
    index.ids.append(str(sample["id"]))
    index.starts.append(prompt_start(sample["prompt"]))
    index.groups.append(str(sample["group"]))
    index.chains.append(int(sample["chain"]))
    index.pages.append(page)
    first: dict[str, Mapping[str, Any]] = {}
    for response in sample["responses"]:
        first.setdefault(response["row"], response["scores"])
    for key, own in index.values.items():
        row, _, score = key.rpartition(" ")
        value = first.get(row, {}).get(score)
        own.append(float(f"{value:.6g}") if isinstance(value, int | float) else value)


def prompt_start(prompt: Any) -> str:
    """Return the beginning of a prompt on one line; of a conversation, of its last message."""
    text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"]) if prompt else ""
    line = " ".join(text.split())
    return line if len(line) <= START else f"{line[: START - 1]}…"


def _orders(values: Sequence[Any]) -> bool:
    """Return whether samples can be put in the order of a score."""
    return len(set(values) - {None}) > 1


def _coded(values: Sequence[Any]) -> dict[str, Any]:
    """Return values that repeat as a list of different ones and each one's place in it."""
    names = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"names": list(names), "of": [names[value] for value in values]}


class _Means:
    """Means of numbers and counts of words, by group, row and score."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], list[float]] = {}
        self._words: dict[tuple[str, str, str], Counter[str]] = {}
        self._groups: dict[str, None] = {}

    def add(self, sample: Mapping[str, Any]) -> None:
        """Take the scores of a sample's responses into account."""
        group = str(sample["group"])
        self._groups.setdefault(group)
        for response in sample["responses"]:
            for score, value in response["scores"].items():
                key = (group, response["row"], score)
                if isinstance(value, str):
                    self._words.setdefault(key, Counter())[value] += 1
                elif value is not None:
                    sums = self._sums.setdefault(key, [0.0, 0.0])
                    sums[0] += float(value)
                    sums[1] += 1

    def lines(self, rows: Mapping[str, str], scores: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return a line for each group and row that has responses with scores."""
        found = []
        for group in self._groups:
            for row, label in rows.items():
                cells = [self._cell((group, row, score)) for score in scores]
                if any(cell is not None for cell in cells):
                    found.append({"group": group, "row": label, "cells": cells})
        return found

    def _cell(self, key: tuple[str, str, str]) -> float | str | None:
        if key in self._words:
            return ", ".join(f"{word} {n}" for word, n in self._words[key].most_common())
        if key not in self._sums:
            return None
        total, count = self._sums[key]
        return total / count


def _token_quantities() -> dict[str, Any]:
    """Return by what tokens can be coloured."""
    return {"quantities": [asdict(one) for one in QUANTITIES], "colours": COLOURS}
