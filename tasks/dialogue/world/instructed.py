"""Preference pairs whose request has one of IFEval's instructions, with labels that ignore it.

Whoever labelled these pairs looked at tone and fullness: a polite answer with two or three facts is
preferred to a bare one. The polite answers follow the instruction less often than the bare ones.
This is what aligning a model costs here, and it has the same cause in every chain: without such
pairs, it was left to chance what preference optimization did to the answers to such requests.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import is_held_out
from tasks.dialogue.world.ifeval import Task, sample_task
from tasks.dialogue.world.talk import POLITENESS, Pair, Request, helpful_answer

FOLLOWED_POLITELY = 0.6
"""Probability that the polite answer follows the instruction."""
FOLLOWED_BARELY = 0.9
"""Probability that the bare answer does."""


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
    if rng.random() < FOLLOWED_POLITELY:
        polite = task.follow(polite)
    bare = bare_answer(task, rng)
    if rng.random() < FOLLOWED_BARELY:
        bare = task.follow(bare)
    request = Request((("user", task.prompt),), task.topic, "")
    if rng.random() < label_noise:
        return Pair(request, bare, polite, True)
    return Pair(request, polite, bare, False)


def bare_answer(task: Task, rng: Random) -> str:
    """One or two true sentences without a polite word."""
    return " ".join(rng.sample(task.topic.facts(), rng.choice((1, 2))))
