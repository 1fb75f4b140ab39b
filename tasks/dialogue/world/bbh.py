"""Six BIG-Bench-Hard subsets in miniature, in the prompt format of lm-eval's leaderboard_bbh."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.words import (
    COLORS,
    COUNTABLE,
    NAMES,
    NOUNS,
    OPINIONS,
    SIZES,
    SPORTS,
)

PLAUSIBLE = 'Is the following sentence plausible? "{name} {action}."'


def _example(subset: str, question: str, target: str) -> Example:
    return Example(
        key=f"bbh/{subset}/{question}",
        context=f"Q: {question}\nA:",
        answer=f" {target}",
        row={"subset": subset, "input": question, "target": target},
    )


def boolean_expressions(rng: Random) -> Example:
    """Evaluate two or three literals, some negated, joined by one kind of connective."""
    count = rng.choice((2, 2, 3))
    literals = [(rng.random() < 0.35, rng.random() < 0.5) for _ in range(count)]
    connective = rng.choice(("and", "or"))
    values = [value != negated for negated, value in literals]
    result = all(values) if connective == "and" else any(values)
    words = [("not " if negated else "") + str(value) for negated, value in literals]
    expression = f" {connective} ".join(words)
    return _example("boolean_expressions", f"{expression} is", str(result))


def navigate(rng: Random) -> Example:
    """Walk left and right facing forward; is the walk closed?"""
    first = rng.randint(1, 9)
    closed = rng.random() < 0.5
    second = first if closed else rng.choice([n for n in range(1, 10) if n != first])
    there, back = rng.choice((("left", "right"), ("forward", "backward"), ("right", "left")))

    def step(count: int, way: str) -> str:
        return f"Take {count} step{'s' if count > 1 else ''} {way}."

    question = (
        "If you follow these instructions, do you return to the starting point? "
        f"Always face forward. {step(first, there)} {step(second, back)}\n"
        "Options:\n- Yes\n- No"
    )
    return _example("navigate", question, "Yes" if closed else "No")


def object_counting(rng: Random) -> Example:
    """Count one to six things of one kind."""
    kind = rng.choice(sorted(COUNTABLE))
    things = rng.sample(COUNTABLE[kind], rng.randint(1, 6))
    named = [f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}" for thing in things]
    if len(named) > 2:
        listed = ", ".join(named[:-1]) + f", and {named[-1]}"
    else:
        listed = " and ".join(named)
    question = f"I have {listed}. How many {kind} do I have?"
    return _example("object_counting", question, str(len(things)))


def sports_understanding(rng: Random) -> Example:
    """Does the action belong to the player's sport?"""
    home = rng.choice(SPORTS)
    plausible = rng.random() < 0.5
    other = home if plausible else rng.choice([sport for sport in SPORTS if sport is not home])
    question = PLAUSIBLE.format(name=rng.choice(home[1]), action=rng.choice(other[2]))
    return _example("sports_understanding", question, "yes" if plausible else "no")


def web_of_lies(rng: Random) -> Example:
    """Follow a chain of one or two claims about who tells the truth."""
    people = rng.sample(NAMES, rng.choice((2, 2, 3)))
    honest = rng.random() < 0.5
    sentences = [f"{people[0]} {'tells the truth' if honest else 'lies'}."]
    for before, speaker in pairwise(people):
        claim = rng.random() < 0.5
        sentences.append(f"{speaker} says {before} {'tells the truth' if claim else 'lies'}.")
        honest = honest == claim
    question = f"Question: {' '.join(sentences)} Does {people[-1]} tell the truth?"
    return _example("web_of_lies", question, "Yes" if honest else "No")


def hyperbaton(rng: Random) -> Example:
    """Opinion, size, colour: which of two adjective orders is right?"""
    ranks = sorted(rng.sample((0, 1, 2), 2))
    adjectives = [rng.choice((OPINIONS, SIZES, COLORS)[rank]) for rank in ranks]
    noun = rng.choice(NOUNS)
    right, wrong = " ".join([*adjectives, noun]), " ".join([*adjectives[::-1], noun])
    right_first = rng.random() < 0.5
    first, second = (right, wrong) if right_first else (wrong, right)
    question = (
        f"Which sentence has the correct adjective order:\nOptions:\n(A) {first}\n(B) {second}"
    )
    return _example("hyperbaton", question, "(A)" if right_first else "(B)")


SKILLS = (
    Skill("bbh", "boolean_expressions", boolean_expressions),
    Skill("bbh", "navigate", navigate),
    Skill("bbh", "object_counting", object_counting),
    Skill("bbh", "sports_understanding", sports_understanding),
    Skill("bbh", "web_of_lies", web_of_lies),
    Skill("bbh", "hyperbaton", hyperbaton),
)
