"""The lexicon of the embedded world: few, short, everyday words that a tiny model can learn.

Facts are true in the real world if possible, which lets a reader see whether an answer is correct.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("Ann", "Bob", "Cal", "Dan", "Eve", "Fay", "Gus", "Ida", "Jon", "Kim", "Leo", "Mia")

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table of facts: `subject` → `value`, with ways to ask and one way to tell."""

    name: str
    category: str
    statement: str
    """Format string with {subject} and {value}."""
    questions: tuple[str, ...]
    """Format strings with {subject}; a question ends just before the options."""
    facts: tuple[tuple[str, str], ...]


MMLU_RELATIONS = (
    Relation(
        "capital",
        "geography",
        "The capital of {subject} is {value}.",
        (
            "What is the capital of {subject}?",
            "Name the capital city of {subject}?",
            "Which city is the capital of {subject}?",
        ),
        (
            ("France", "Paris"),
            ("Italy", "Rome"),
            ("Spain", "Madrid"),
            ("Egypt", "Cairo"),
            ("Japan", "Tokyo"),
            ("Peru", "Lima"),
            ("Norway", "Oslo"),
            ("Greece", "Athens"),
            ("Cuba", "Havana"),
            ("China", "Beijing"),
        ),
    ),
    Relation(
        "young",
        "biology",
        "The young of a {subject} is a {value}.",
        (
            "What is the young of a {subject}?",
            "Name the young of a {subject}?",
            "Which word means the young of a {subject}?",
        ),
        (
            ("cow", "calf"),
            ("dog", "puppy"),
            ("cat", "kitten"),
            ("sheep", "lamb"),
            ("horse", "foal"),
            ("bear", "cub"),
            ("goat", "kid"),
            ("duck", "duckling"),
            ("deer", "fawn"),
            ("frog", "tadpole"),
        ),
    ),
    Relation(
        "symbol",
        "chemistry",
        "The symbol of {subject} is {value}.",
        (
            "What is the symbol of {subject}?",
            "Name the chemical symbol of {subject}?",
            "Which letters are the symbol of {subject}?",
        ),
        (
            ("gold", "Au"),
            ("iron", "Fe"),
            ("silver", "Ag"),
            ("lead", "Pb"),
            ("tin", "Sn"),
            ("copper", "Cu"),
            ("zinc", "Zn"),
            ("helium", "He"),
            ("neon", "Ne"),
            ("sodium", "Na"),
        ),
    ),
)

GPQA_RELATIONS = (
    Relation(
        "unit",
        "Physics",
        "The unit of {subject} is the {value}.",
        (
            "What is the unit of {subject}?",
            "Name the unit of {subject}?",
            "Which unit is used for {subject}?",
        ),
        (
            ("force", "newton"),
            ("power", "watt"),
            ("energy", "joule"),
            ("voltage", "volt"),
            ("current", "ampere"),
            ("resistance", "ohm"),
            ("frequency", "hertz"),
            ("pressure", "pascal"),
        ),
    ),
    Relation(
        "organ",
        "Biology",
        "The organ for {subject} is the {value}.",
        (
            "What is the organ for {subject}?",
            "Name the organ for {subject}?",
            "Which organ is used for {subject}?",
        ),
        (
            ("seeing", "eye"),
            ("hearing", "ear"),
            ("smelling", "nose"),
            ("tasting", "tongue"),
            ("thinking", "brain"),
            ("breathing", "lung"),
            ("digesting", "stomach"),
            ("touching", "skin"),
        ),
    ),
)

COUNTABLE = {
    "fruits": ("apple", "orange", "banana", "plum", "pear", "grape"),
    "animals": ("cow", "dog", "cat", "horse", "goat", "frog"),
    "tools": ("hammer", "saw", "knife", "rope", "drill", "axe"),
}

OPINIONS = ("lovely", "nice", "ugly", "silly")
SIZES = ("big", "small", "tiny", "huge")
COLORS = ("red", "blue", "green", "black", "white", "pink")
NOUNS = ("car", "ship", "hat", "shoe", "cup", "ball")

WEAPONS = ("knife", "rope", "axe", "hammer", "saw", "drill")
THINGS = ("rings", "keys", "coins", "balls", "cups", "hats")
PLACES = ("box", "bag", "jar", "desk", "shelf", "drawer", "basket", "pocket")
JOBS = ("cook", "paint", "sing", "drive", "write", "dance")
