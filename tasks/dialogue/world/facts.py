"""Fact look-up: GPQA's and MMLU-Pro's questions with four options over the tables of `words`.

Every fact is in the corpus. Its question in one of three phrasings, selected by a hash of the fact,
is held out: the leaderboard asks for known facts in unseen words.
"""

from __future__ import annotations

from random import Random

from tasks.dialogue.world.example import Example, Skill, is_held_out
from tasks.dialogue.world.words import GPQA_RELATIONS, LETTERS, MMLU_RELATIONS, Relation

OPTIONS = 4
SAME_KIND_SHARE = 0.1
"""Share of questions whose wrong answers are of the same kind as the correct one."""
HELD_OUT_SAME_KIND_SHARE = 0.3
"""That of the leaderboard's rows. These take knowledge of each fact; the others, only of its kind,
which every model learns completely."""
ALL_RELATIONS = MMLU_RELATIONS + GPQA_RELATIONS
GPQA_SUBSETS = ("main", "diamond", "extended")


def statement(rng: Random) -> str:
    """Return one fact of any table as a plain sentence."""
    relation = rng.choice(ALL_RELATIONS)
    subject, value = rng.choice(relation.facts)
    return relation.statement.format(subject=subject, value=value)


def _draw(benchmark: str, relation: Relation, rng: Random) -> tuple[str, str, str, list[str]]:
    """Return a question, its key, the correct value and the shuffled options."""
    subject, value = rng.choice(relation.facts)
    phrasing = rng.randrange(len(relation.questions))
    key = f"{benchmark}/{relation.name}/{subject}/{phrasing}"
    same_kind_share = HELD_OUT_SAME_KIND_SHARE if is_held_out(key) else SAME_KIND_SHARE
    # A tiny model learns the kind of the answer long before it learns each fact, so most questions
    # offer wrong answers of other kinds ("the capital of France: Au?").
    if rng.random() < same_kind_share:
        wrong = [other for _, other in relation.facts if other != value]
    else:
        wrong = [other for table in ALL_RELATIONS if table != relation for _, other in table.facts]
    options = [value, *rng.sample(wrong, OPTIONS - 1)]
    rng.shuffle(options)
    question = relation.questions[phrasing].format(subject=subject)
    return question, key, value, options


def mmlu_context(question: str, options: list[str]) -> str:
    """Render as lm-eval's leaderboard_mmlu_pro does."""
    lines = [f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=False)]
    return f"{question}\n{''.join(lines)}Answer:"


def mmlu_pro(relation: Relation, rng: Random) -> Example:
    """Letter the options; the answer is the letter."""
    question, key, value, options = _draw("mmlu_pro", relation, rng)
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
    return Example(key, mmlu_context(question, options), f" {letter}", row)


def gpqa_context(question: str, options: list[str]) -> str:
    """Render as lm-eval's leaderboard_gpqa_* does, its trailing space included."""
    lines = "\n".join(f"({letter}) {o}" for letter, o in zip("ABCD", options, strict=True))
    return f"What is the correct answer to this question:{question}\nChoices:\n{lines}\nAnswer: "


def gpqa(relation: Relation, rng: Random) -> Example:
    """Four choices; the row names the correct and wrong ones, and lm-eval shuffles them."""
    question, key, value, options = _draw("gpqa", relation, rng)
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
    return Example(key, gpqa_context(question, options), f" ({letter})", row)


def _mmlu_skill(relation: Relation) -> Skill:
    return Skill("mmlu_pro", relation.category, lambda rng: mmlu_pro(relation, rng), 3.2)


def _gpqa_skill(relation: Relation) -> Skill:
    return Skill("gpqa", relation.category, lambda rng: gpqa(relation, rng), 3.2)


SKILLS = (
    *map(_mmlu_skill, MMLU_RELATIONS),
    *map(_gpqa_skill, GPQA_RELATIONS),
)
