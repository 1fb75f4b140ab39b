"""Four BIG-Bench-Hard subsets in miniature, in the prompt format of lm-eval's leaderboard_bbh."""

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
)


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
    Skill("bbh", "object_counting", object_counting),
    Skill("bbh", "web_of_lies", web_of_lies, 0.5),
    Skill("bbh", "hyperbaton", hyperbaton),
)
