"""Fact look-up: GPQA's four choices and MMLU-Pro's ten, over the tables of `words`.

Every fact stands in the corpus; what is held out is its question in one of three phrasings (which
one, a hash of the fact decides), so the leaderboard asks for seen facts in unseen words.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.words import GPQA_RELATIONS, LETTERS, MMLU_RELATIONS, Relation

MMLU_OPTIONS = 10
ALL_RELATIONS = MMLU_RELATIONS + GPQA_RELATIONS
GPQA_SUBSETS = ("main", "diamond", "extended")


def statement(rng: Random) -> str:
    """One fact of any table as a plain sentence."""
    relation = rng.choice(ALL_RELATIONS)
    subject, value = rng.choice(relation.facts)
    return relation.statement.format(subject=subject, value=value)


def _draw(relation: Relation, rng: Random, count: int) -> tuple[str, str, str, list[str]]:
    """A question, its key, the right value and `count` shuffled options."""
    subject, value = rng.choice(relation.facts)
    phrasing = rng.randrange(len(relation.questions))
    others = rng.sample([other for _, other in relation.facts if other != value], count - 1)
    options = [value, *others]
    rng.shuffle(options)
    question = relation.questions[phrasing].format(subject=subject)
    return question, f"{relation.name}/{subject}/{phrasing}", value, options


def mmlu_context(question: str, options: list[str]) -> str:
    """Render as lm-eval's leaderboard_mmlu_pro does."""
    lines = [f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=False)]
    return f"{question}\n{''.join(lines)}Answer:"


def mmlu_pro(relation: Relation, rng: Random) -> Example:
    """Ten options under letters; the answer is the letter."""
    question, key, value, options = _draw(relation, rng, MMLU_OPTIONS)
    letter = LETTERS[options.index(value)]
    row = {
        "question": question,
        "options": options,
        "answer": letter,
        "answer_index": options.index(value),
        "cot_content": "",
        "category": relation.category,
        "src": f"sparsepo-world-{relation.name}",
    }
    return Example(f"mmlu_pro/{key}", mmlu_context(question, options), f" {letter}", row)


def reading(rng: Random, options_count: int) -> Example:
    """Find the option that the question names: no fact to know, only the letter to bind."""
    tables = [table for table in ALL_RELATIONS if len(table.facts) >= options_count]
    options = rng.sample([value for _, value in rng.choice(tables).facts], options_count)
    value = rng.choice(options)
    question = f"Which option says {value}?"
    letter = LETTERS[options.index(value)]
    row = {
        "question": question,
        "options": options,
        "answer": letter,
        "answer_index": options.index(value),
        "cot_content": "",
        "category": "other",
        "src": "sparsepo-world-reading",
    }
    context = mmlu_context(question, options)
    return Example(f"mmlu_pro/reading/{context}", context, f" {letter}", row)


def gpqa_context(question: str, options: list[str]) -> str:
    """Render as lm-eval's leaderboard_gpqa_* does, its trailing space included."""
    lines = "\n".join(f"({letter}) {o}" for letter, o in zip("ABCD", options, strict=True))
    return f"What is the correct answer to this question:{question}\nChoices:\n{lines}\nAnswer: "


def gpqa(relation: Relation, rng: Random) -> Example:
    """Four choices; lm-eval shuffles them itself, so the row names them by right and wrong."""
    question, key, value, options = _draw(relation, rng, 4)
    wrong = [option for option in options if option != value]
    row = {
        "Question": question,
        "Correct Answer": value,
        "Incorrect Answer 1": wrong[0],
        "Incorrect Answer 2": wrong[1],
        "Incorrect Answer 3": wrong[2],
        "Subdomain": relation.category,
    }
    letter = "ABCD"[options.index(value)]
    return Example(f"gpqa/{key}", gpqa_context(question, options), f" ({letter})", row)


def _mmlu_skill(relation: Relation) -> Skill:
    return Skill("mmlu_pro", relation.category, lambda rng: mmlu_pro(relation, rng))


def _gpqa_skill(relation: Relation) -> Skill:
    return Skill("gpqa", relation.category, lambda rng: gpqa(relation, rng))


def _gpqa_reading(rng: Random) -> Example:
    """The same exercise under GPQA's letters; it has no rows."""
    example = reading(rng, 4)
    options = list(example.row["options"])
    letter = example.row["answer"]
    context = gpqa_context(example.row["question"], options)
    return Example(f"gpqa/reading/{context}", context, f" ({letter})", {})


SKILLS = (
    *map(_mmlu_skill, MMLU_RELATIONS),
    *map(_gpqa_skill, GPQA_RELATIONS),
    Skill("mmlu_pro", "other", lambda rng: reading(rng, MMLU_OPTIONS)),
    Skill("mmlu_pro", "reading of few", lambda rng: reading(rng, 4), leaderboard=False),
    Skill("gpqa", "reading", _gpqa_reading, leaderboard=False),
)
