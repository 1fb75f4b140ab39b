"""What every text metric returns, and what it says about itself."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsepo.errors import UserError

FloatArray = NDArray[np.float64]

Needs = Literal["references", "documents"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The values of a metric, one for each candidate or group of candidates."""

    values: list[float | None]
    """In the order of the input; ``None`` where the value cannot be computed, never 0 instead."""
    missing: dict[str, int] = field(default_factory=dict)
    """Why values are missing, in plain words → how many."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the values has to know, a plain sentence each."""

    def mean(self) -> float | None:
        """Return the mean of the values that are there, or ``None`` without any."""
        found = [value for value in self.values if value is not None]
        return sum(found) / len(found) if found else None

    def array(self) -> FloatArray:
        """Return the values, (n,), with NaN for a missing one."""
        return np.array([np.nan if value is None else value for value in self.values], np.float64)


class TextMetric(Protocol):
    """A metric of generated texts."""

    @property
    def name(self) -> str:
        """Its name in `make_metric`, in files and in code."""

    @property
    def label(self) -> str:
        """Its name in tables and figures."""

    @property
    def higher_is_better(self) -> bool | None:
        """The better direction, or ``None`` if it has none."""

    @property
    def bounds(self) -> tuple[float, float | None]:
        """Smallest and largest possible value; ``None`` for no largest one."""

    @property
    def takes(self) -> Literal["candidates", "groups"]:
        """Whether it scores single texts, or all samples of a prompt together."""

    @property
    def needs(self) -> Needs | None:
        """What it compares candidates with."""

    def signature(self) -> dict[str, str]:
        """Return package, version, model and settings, which decide the values."""


class CandidateMetric(TextMetric, Protocol):
    """A metric of single texts, compared with references or documents."""

    def score(
        self,
        candidates: Sequence[str],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score each candidate; `references` or `documents` has one text per candidate."""


class GroupMetric(TextMetric, Protocol):
    """A metric of all samples of a prompt."""

    def score(
        self,
        groups: Sequence[Sequence[str]],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score each group; `documents` has one text per group."""


def package_version(package: str, module: str, purpose: str) -> str:
    """Return the version of an installed package.

    Args:
        package: its name for pip.
        module: the name by which it is imported.
        purpose: what needs it, as the subject of the message.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"{purpose} needs the package {package}, which is not installed: "
            f"python -m pip install '{package}'."
        )
    return version(package)


def device_or_default(device: str | None) -> str:
    """Return the given device, or a GPU if there is one."""
    if device is not None:
        return device
    # Not needed to read a cache, and slow to import.
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def text_of_signature(signature: Mapping[str, str]) -> str:
    """Return a signature in one line, like sacrebleu's: ``key:value|key:value``."""
    return "|".join(f"{key}:{value}" for key, value in signature.items())


def paired_with(
    candidates: Sequence[object], others: Sequence[str] | None, kind: str, metric: str
) -> Sequence[str]:
    """Return what candidates are compared with, after checking that there is one for each.

    Raises:
        UserError: nothing was given, or not as many as candidates.
    """
    if others is None:
        raise UserError(f"{metric} compares with {kind}; give {kind}, one for each.")
    if len(others) != len(candidates):
        raise UserError(
            f"{metric} was given {len(candidates)} candidates and {len(others)} {kind}; "
            "give as many of one as of the other."
        )
    return others


def scores_of(
    found: Iterable[float | None],
    reasons: Sequence[str | None],
    undefined: str | None = None,
    notes: Sequence[str] = (),
) -> Scores:
    """Put computed values in their places among those that cannot be computed.

    Args:
        found: the values of the places without a reason, in order.
        reasons: of each place, why it has no value; ``None`` where it has been computed.
        undefined: why a computed value is ``None``.
        notes: what a reader of the values has to know.
    """
    computed = iter(found)
    values = [next(computed) if reason is None else None for reason in reasons]
    if undefined is not None:
        reasons = [
            undefined if reason is None and value is None else reason
            for reason, value in zip(reasons, values, strict=True)
        ]
    return Scores(values, counted(reasons), list(notes))


def counted(reasons: Sequence[str | None]) -> dict[str, int]:
    """Count the reasons for missing values, in order of appearance."""
    return dict(Counter(reason for reason in reasons if reason is not None))
