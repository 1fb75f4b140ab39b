"""Dense exercises without a question's frame: look up what stood beside a word, copy a line.

Tracking, reading and choosing by letter all rest on one circuit, attending to an earlier occurrence
of a word and fetching its neighbour. A question gives it one answer to learn from; these documents
give it one in every few tokens, and a small model then finds it within the training budget.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import Row
from tasks.dialogue.world.facts import ALL_RELATIONS
from tasks.dialogue.world.noise import noise
from tasks.dialogue.world.words import JOBS, LETTERS, NAMES, PLACES, THINGS, WEAPONS

VALUES = tuple(value for relation in ALL_RELATIONS for _, value in relation.facts)

_FORMS = (
    # (what is fetched, by which word, how the two stand together)
    (LETTERS, VALUES, "{0}. {1}\n"),
    (LETTERS[:4], VALUES, "({0}) {1}\n"),
    (NAMES, WEAPONS, "This is {0}'s {1}. "),
    (NAMES, JOBS, "{0} can {1}. "),
    (PLACES, THINGS, "The {0} holds {1}. "),
)


def recall(rng: Random) -> Row:
    """A list of pairs, then each pair's second word with the first to be recalled."""
    fetched, keys, form = rng.choice(_FORMS)
    count = rng.randint(2, min(6, len(fetched)))
    ordered = isinstance(fetched, str)
    first = list(fetched[:count]) if ordered else rng.sample(fetched, count)
    second = rng.sample(keys, count)
    text = "".join(form.format(a, b) for a, b in zip(first, second, strict=True)).rstrip() + "\n"
    answers: list[list[int]] = []
    for place in rng.sample(range(count), count):
        text += f"{second[place]}:"
        start = len(text)
        text += f" {first[place]}"
        answers.append([start, len(text)])
        text += "\n"
    return {"text": text.rstrip(), "answers": answers}


def repetition(rng: Random, words: int) -> Row:
    """A line of pseudo-words and its exact repetition, which can only be had by copying."""
    line = noise(rng, words)
    return {"text": f"{line}\n{line}", "answers": [], "unread": len(line)}
