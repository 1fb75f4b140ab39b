"""Very short stories for MuSR's three splits, in the prompt format of lm-eval's leaderboard_musr.

The numbers of choices are those that the leaderboard's chance levels assume: two suspects, five
places, three allocations.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.words import JOBS, NAMES, PLACES, THINGS, WEAPONS

ALIBIS = ("was at home", "was asleep", "was at work", "was on a train")
TRACES = ("ran from the scene", "had blood on the hands", "hid the weapon", "has no alibi")


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
    """One suspect has an alibi, the other left traces."""
    victim, *suspects = rng.sample(NAMES, 3)
    culprit = rng.choice(suspects)
    told = [f"{s} {rng.choice(TRACES if s == culprit else ALIBIS)}." for s in suspects]
    weapon = rng.choice(WEAPONS)
    narrative = f"{victim} was killed with {'an' if weapon == 'axe' else 'a'} {weapon}. " + (
        " ".join(told)
    )
    question = "Who is the most likely murderer?"
    return _example("murder_mysteries", narrative, question, sorted(suspects), culprit)


def object_placements(rng: Random) -> Example:
    """Things are moved; the one who moved them knows, the one who was out does not."""
    mover, absent = rng.sample(NAMES, 2)
    things = rng.choice(THINGS)
    places = rng.sample(PLACES, 5)
    asked, answer = rng.choice(((mover, places[1]), (absent, places[0])))
    narrative = (
        f"The {things} were in the {places[0]}. {absent} went out. "
        f"Then {mover} moved the {things} to the {places[1]}."
    )
    question = (
        f"Which location is the most likely place {asked} would look to find the {things} "
        "given the story?"
    )
    return _example("object_placements", narrative, question, sorted(places), answer)


def team_allocation(rng: Random) -> Example:
    """Of three people one does the job well."""
    people = rng.sample(NAMES, 3)
    job = rng.choice(JOBS)
    skills = ["{0} can {1} well.", "{0} cannot {1}.", "{0} hates to {1}."]
    chosen = people[0]
    told = [form.format(person, job) for form, person in zip(skills, people, strict=True)]
    rng.shuffle(told)
    question = f"Given the story, who should be chosen to {job}?"
    return _example("team_allocation", " ".join(told), question, sorted(people), chosen)


SKILLS = (
    Skill("musr", "murder_mysteries", murder_mysteries, 4.2),
    Skill("musr", "object_placements", object_placements, 4.2),
    Skill("musr", "team_allocation", team_allocation, 4.2),
)
