"""Very short stories for MuSR's three splits, in the prompt format of lm-eval's leaderboard_musr.

The numbers of choices are the ones that the leaderboard's chance levels suppose: two suspects,
five places, three allocations.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.words import JOBS, NAMES, PLACES, THINGS, WEAPONS


def _example(split: str, narrative: str, question: str, choices: list[str], answer: str) -> Example:
    numbered = "".join(f"{i + 1} - {choice}\n" for i, choice in enumerate(choices))
    return Example(
        key=f"musr/{split}/{narrative}/{question}",
        context=f"{narrative}\n\n{question}\n\n{numbered}\nAnswer:",
        answer=f" {answer}",
        row={
            "split": split,
            "narrative": narrative,
            "question": question,
            "choices": repr(choices),
            "answer_index": choices.index(answer),
            "answer_choice": answer,
        },
    )


def murder_mysteries(rng: Random) -> Example:
    """The murderer is the one who held the weapon."""
    victim, *suspects = rng.sample(NAMES, 3)
    weapons = rng.sample(WEAPONS, 2)
    culprit = rng.randrange(2)
    held = [f"This is {s}'s {w}." for w, s in zip(weapons, suspects, strict=True)]
    rng.shuffle(held)
    narrative = f"{' '.join(held)} {victim} died by the {weapons[culprit]}."
    choices = sorted(suspects)
    question = "Who is the most likely murderer?"
    return _example("murder_mysteries", narrative, question, choices, suspects[culprit])


def object_placements(rng: Random) -> Example:
    """A person looks for things where they are kept."""
    things = rng.sample(THINGS, 3)
    places = rng.sample(PLACES, 5)
    person = rng.choice(NAMES)
    stories = [f"The {p} holds {t}." for t, p in zip(things, places, strict=False)]
    asked = rng.randrange(3)
    question = (
        f"Which location is the most likely place {person} would look to find the "
        f"{things[asked]} given the story?"
    )
    return _example("object_placements", " ".join(stories), question, sorted(places), places[asked])


def team_allocation(rng: Random) -> Example:
    """Each of three people can do one job; who should do the one asked for?"""
    people = rng.sample(NAMES, 3)
    jobs = rng.sample(JOBS, 3)
    narrative = " ".join(f"{p} can {j}." for p, j in zip(people, jobs, strict=True))
    asked = rng.randrange(3)
    question = f"Given the story, who should be chosen to {jobs[asked]}?"
    return _example("team_allocation", narrative, question, sorted(people), people[asked])


SKILLS = (
    Skill("musr", "murder_mysteries", murder_mysteries),
    Skill("musr", "object_placements", object_placements),
    Skill("musr", "team_allocation", team_allocation),
)
