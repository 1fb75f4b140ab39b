"""`python -m benchmarks.significance`: do the bootstraps clustered by prompt keep their promise?

Simulates evaluations without any difference between systems (`tasks.metrics.significance`), several
samples of each prompt, and counts how often the 95 % intervals of means and differences contain the
truth, how often a test finds a difference that is not there, and how often it finds the difference
that it calls detectable. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from benchmarks.coverage import CARDS
from tasks.metrics.significance import FloatArray, compare_systems, mcnemar, system_mean

ALPHA = 0.05
SYSTEMS = 5


@dataclass(frozen=True)
class Design:
    """How the values of simulated systems vary, in points of 100."""

    name: str
    prompts: int = 120
    samples: int = 5
    level: float = 25.0
    """Median value."""
    prompt_sd: float = 0.5
    """Spread of prompts on the logistic scale, the same for all systems."""
    system_sd: float = 0.3
    """Spread of prompts that is a system's own."""
    sample_sd: float = 0.3
    """Spread of the samples of one prompt."""
    binary: bool = False
    """Whether a sample passes or fails with the resulting probability."""


DESIGNS = (
    Design("ROUGE-L"),
    Design("skewed", level=6.0, prompt_sd=1.0, system_sd=0.6, sample_sd=0.6),
    Design("one value per prompt", samples=1, level=40.0, prompt_sd=1.0, system_sd=0.6),
    Design("pass or fail", samples=1, level=60.0, prompt_sd=1.5, system_sd=0.5, binary=True),
)


@dataclass(frozen=True)
class Counted:
    """What was counted in the simulated evaluations of one design; shares in percent."""

    design: str
    prompts: int
    samples: int
    means: float
    """Intervals of means that contain the truth."""
    differences: float
    """Intervals of differences that contain 0, all pairs."""
    false_positives: float
    """Comparisons with p < 0.05 before Holm's adjustment."""
    false_families: float
    """Evaluations in which any of the ten comparisons has p < 0.05 after it."""
    mcnemar: float | None
    """Comparisons with p < 0.05 by McNemar's test, of designs that pass or fail."""
    found: float
    """How often a true difference of the detectable size is found after Holm's adjustment."""


def draw(design: Design, generator: np.random.Generator) -> dict[str, FloatArray]:
    """Draw the values of systems without any difference, (prompts, samples) each, in [0, 100]."""
    shape = (SYSTEMS, design.prompts, design.samples)
    middle = np.log(design.level / (100.0 - design.level))
    latent = (
        middle
        + design.prompt_sd * generator.normal(size=(1, design.prompts, 1))
        + design.system_sd * generator.normal(size=(SYSTEMS, design.prompts, 1))
        + design.sample_sd * generator.normal(size=shape)
    )
    values = 1.0 / (1.0 + np.exp(-latent))
    if design.binary:
        values = (generator.random(shape) < values).astype(np.float64)
    return {f"system {i}": 100.0 * own for i, own in enumerate(values)}


def simulate(design: Design, samples: int, replicates: int = 2000, seed: int = 0) -> Counted:
    """Simulate evaluations of one design.

    The draws of the bootstrap do not depend on the values; all evaluations share them.

    Args:
        design: what varies.
        samples: number of simulated evaluations.
        replicates: of each bootstrap.
        seed: of everything random.
    """
    generator = np.random.default_rng((seed, design.prompts, design.samples))
    truth = float(
        np.mean([one.mean() for _ in range(400) for one in draw(design, generator).values()])
    )
    means, differences, positives, families, exact, found = [], [], [], [], [], []
    for _ in range(samples):
        scores = draw(design, generator)
        for own in scores.values():
            mean = system_mean(own, replicates, seed)
            means.append(mean is not None and mean.ci95[0] <= truth <= mean.ci95[1])
        compared = compare_systems(scores, None, replicates, seed)
        for one in compared:
            assert one.ci95 is not None and one.p is not None
            differences.append(one.ci95[0] <= 0.0 <= one.ci95[1])
            positives.append(one.p < ALPHA)
        families.append(any(one.p_holm is not None and one.p_holm < ALPHA for one in compared))
        if design.binary:
            first, second = list(scores.values())[:2]
            exact.append(mcnemar(first[:, 0] > 0, second[:, 0] > 0).p < ALPHA)
        # The first system is moved by what the comparison with the second calls detectable.
        moved = {**scores, "system 0": scores["system 0"] + (compared[0].detectable or 0.0)}
        again = compare_systems(dict(list(moved.items())[:2]), None, replicates, seed)[0]
        # At the family's first step, which the detectable difference is meant for.
        found.append(again.p is not None and again.p < ALPHA / len(compared))
    return Counted(
        design.name,
        design.prompts,
        design.samples,
        _percent(means),
        _percent(differences),
        _percent(positives),
        _percent(families),
        _percent(exact) if exact else None,
        _percent(found),
    )


def _percent(found: Sequence[bool]) -> float:
    return 100.0 * float(np.mean(found))


def markdown(counted: Iterable[Counted], samples: int, replicates: int) -> str:
    """Return what was counted as a Markdown table."""
    lines = [
        f"{samples} simulated evaluations each, of {SYSTEMS} systems without any difference; "
        f"{replicates} bootstrap replicates.",
        "",
        "| values | prompts | samples | means % | differences % | false positives % | "
        "false after Holm % | McNemar % | found % |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in counted:
        exact = "" if one.mcnemar is None else f"{one.mcnemar:.1f}"
        lines.append(
            f"| {one.design} | {one.prompts} | {one.samples} | {one.means:.1f} | "
            f"{one.differences:.1f} | {one.false_positives:.1f} | {one.false_families:.1f} | "
            f"{exact} | {one.found:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; write a card with --name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="simulated evaluations")
    parser.add_argument("--replicates", type=int, default=4000)
    parser.add_argument("--prompts", type=int, nargs="+", default=[120, 60, 24])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the card that is written to benchmarks/cards")
    options = parser.parse_args(arguments)
    counted = [
        simulate(
            replace(design, prompts=prompts), options.samples, options.replicates, options.seed
        )
        for prompts in options.prompts
        for design in DESIGNS
    ]
    text = markdown(counted, options.samples, options.replicates)
    print(text)
    if options.name:
        given = sys.argv[1:] if arguments is None else arguments
        command = f"python -m benchmarks.significance {' '.join(given)}"
        facts = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "command": command,
            "versions": {"numpy": version("numpy")},
            "designs": [asdict(design) for design in DESIGNS],
            "counted": [asdict(one) for one in counted],
        }
        (CARDS / f"{options.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        title = f"# Bootstraps clustered by prompt, {facts['date']}\n\n```\n{command}\n```\n\n"
        (CARDS / f"{options.name}.md").write_text(title + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
