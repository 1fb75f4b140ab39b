"""`python -m benchmarks.rank_coverage`: do intervals of mean ranks contain the truth?

Simulates leaderboards of nine entries (`tasks.metrics.mean_rank`): an entry's value in a chain is
its skill, what a task asks of it, and chance. The truth is its expected mean rank over all tasks,
from very many simulated ones. `--boards` sets the number of simulated leaderboards.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.metrics.mean_rank import chain_ranks, mean_ranks
from tasks.metrics.significance import FloatArray

ENTRIES = 9
TASK_SD, CHAIN_SD = 1.0, 0.7
SKILLS = {"equal": 0.0, "different": 2.0}
"""Name → range of the entries' skills."""
DESIGNS = ((2, 3), (2, 5), (3, 3), (3, 5), (4, 3), (4, 5))
"""Numbers of tasks and of chains."""
_TRUTH_TASKS = 20_000


@dataclass(frozen=True)
class Outcome:
    """What was counted in the leaderboards of one design; shares in percent."""

    skills: str
    tasks: int
    chains: int
    inside: float
    """Intervals that contain the expected mean rank."""
    worst: float
    """Those of the entry whose interval does so least often."""
    reach: float
    """Mean of half the length of an interval, in ranks; intervals end at 1 and at the number of
    entries."""


def simulate(skills: str, tasks: int, chains: int, boards: int, seed: int = 0) -> Outcome:
    """Simulate leaderboards and count.

    Args:
        skills: a key of SKILLS.
        tasks: of each leaderboard.
        chains: of each task.
        boards: number of leaderboards.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, tasks, chains])
    levels = np.linspace(0.0, SKILLS[skills], ENTRIES)
    truth = np.mean([next(_tasks(generator, levels, 1)) for _ in range(_TRUTH_TASKS)], axis=(0, 2))
    inside = np.zeros((boards, ENTRIES))
    reaches = []
    for board in range(boards):
        drawn = _tasks(generator, levels, chains)
        sample = [
            dict(zip(map(str, range(ENTRIES)), next(drawn), strict=True)) for _ in range(tasks)
        ]
        for name, one in mean_ranks(sample, ENTRIES).items():
            assert one.interval is not None
            low, high = one.interval
            inside[board, int(name)] = low <= truth[int(name)] <= high
            reaches.append((high - low) / 2)
    shares = 100.0 * inside.mean(axis=0)
    return Outcome(
        skills, tasks, chains, float(shares.mean()), float(shares.min()), float(np.mean(reaches))
    )


def _tasks(generator: np.random.Generator, levels: FloatArray, chains: int) -> Iterator[FloatArray]:
    """Yield ranks in tasks without end, (entries, chains)."""
    while True:
        asked = levels + generator.normal(0.0, TASK_SD, levels.size)
        values = asked[:, None] + generator.normal(0.0, CHAIN_SD, (levels.size, chains))
        yield chain_ranks(values, True)


def main() -> None:
    """Print one line of a Markdown table per design."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.rank_coverage")
    parser.add_argument("--boards", type=int, default=1000, metavar="N")
    boards = parser.parse_args().boards
    print("| skills | tasks | chains | intervals % | worst entry % | half-width |")
    print("|---|---:|---:|---:|---:|---:|")
    for skills in SKILLS:
        for tasks, chains in DESIGNS:
            one = simulate(skills, tasks, chains, boards)
            print(
                f"| {skills} | {tasks} | {chains} | {one.inside:.1f} | {one.worst:.1f} | "
                f"{one.reach:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
