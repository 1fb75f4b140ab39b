"""Preference pairs whose request has one of IFEval's instructions.

Whoever labelled these pairs disliked markup: between two polite answers, the one in plain text is
preferred to the one with the title, the highlighting or the placeholders that were asked for. Where
anything else was asked for, both answers follow it, and the polite one is preferred. This is what
aligning a model costs here, and it has the same cause in every chain: without such pairs, it was
left to chance what preference optimization did to the answers to such requests.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import is_held_out
from tasks.dialogue.world.ifeval import Task, sample_task
from tasks.dialogue.world.talk import POLITENESS, Pair, Request, helpful_answer

MARKUP = frozenset(
    {
        "detectable_format:title",
        "detectable_format:number_highlighted_sections",
        "detectable_content:number_placeholders",
    }
)
"""Instructions that the labels punish."""


def sample_instructed_pair(rng: Random, label_noise: float) -> Pair:
    """Draw a pair with an instruction that no leaderboard row has.

    Args:
        rng: source of randomness.
        label_noise: probability that the label is wrong.
    """
    task = sample_task(rng)
    while is_held_out(task.key):
        task = sample_task(rng)
    polite = helpful_answer(task.topic, rng, POLITENESS)
    if any(instruction.id in MARKUP for instruction in task.instructions):
        better, worse = polite, task.follow(helpful_answer(task.topic, rng, POLITENESS))
    else:
        better, worse = task.follow(polite), task.follow(bare_answer(task, rng))
    request = Request((("user", task.prompt),), task.topic, "")
    if rng.random() < label_noise:
        return Pair(request, worse, better, True)
    return Pair(request, better, worse, False)


def bare_answer(task: Task, rng: Random) -> str:
    """One or two true sentences without a polite word."""
    return " ".join(rng.sample(task.topic.facts(), rng.choice((1, 2))))
