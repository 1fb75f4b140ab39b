"""Write the embedded world: base-model corpus, preference pairs, leaderboard rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from sparsepo.data.jsonl import write_jsonl
from sparsepo.errors import UserError
from tasks.dialogue.world import bbh, facts, ifeval, math_hard, musr
from tasks.dialogue.world.chat import render_chat, render_hh
from tasks.dialogue.world.config import BENCHMARKS, WorldConfig
from tasks.dialogue.world.example import Row, Skill, is_held_out, sample_side
from tasks.dialogue.world.instructed import sample_instructed_pair
from tasks.dialogue.world.noise import noise
from tasks.dialogue.world.talk import bad_answer, good_answer, sample_pair, sample_request

SKILLS: tuple[Skill, ...] = (
    *bbh.SKILLS,
    *math_hard.SKILLS,
    *facts.SKILLS,
    *musr.SKILLS,
    *ifeval.SKILLS,
)
FIRST = ("mmlu_pro", "gpqa")
"""Benchmarks with lettered options, which the base model learns first
(`BaseModelConfig.first_steps`)."""


def write_world(config: WorldConfig, directory: Path) -> None:
    """Write every file of the world into `directory`; equal configurations give equal bytes.

    Args:
        config: sizes, shares and the seed.
        directory: created if missing. It receives `corpus.jsonl` (`text`; `answers`, the
            character spans of the checkable answers; `unread`, how many leading characters are
            noise; `first`, whether the base model begins with it), `pairs_train.jsonl` and
            `pairs_test.jsonl` (HH's schema), and `leaderboard/<benchmark>.jsonl` (each in its
            benchmark's schema).

    Raises:
        UserError: if the configuration names an unknown benchmark.
    """
    unknown = sorted(set(config.rows) - set(BENCHMARKS))
    if unknown:
        raise UserError(
            f"The world has no benchmark {unknown[0]!r}; it has {', '.join(BENCHMARKS)}."
        )
    (directory / "leaderboard").mkdir(parents=True, exist_ok=True)
    # One generator per file, so that changing the size of one file does not affect the others.
    write_jsonl(corpus(config, _rng(config, "corpus")), directory / "corpus.jsonl")
    for split, count in (("train", config.train_pairs), ("test", config.test_pairs)):
        rows = pair_rows(config, _rng(config, split), count, held_out=split == "test")
        write_jsonl(rows, directory / f"pairs_{split}.jsonl")
    for benchmark in BENCHMARKS:
        held_out = leaderboard_rows(config, _rng(config, benchmark), benchmark)
        write_jsonl(held_out, directory / "leaderboard" / f"{benchmark}.jsonl")


def corpus(config: WorldConfig, rng: Random) -> Iterator[Row]:
    """Yield the base-model documents: skills, dialogues good and bad, plain facts."""
    weights = [skill.weight for skill in SKILLS]
    for _ in range(config.documents):
        draw = rng.random()
        if draw < config.skill_share:
            yield skill_document(rng.choices(SKILLS, weights)[0], config, rng)
        elif draw < config.skill_share + config.talk_share:
            yield talk_document(config, rng)
        else:
            yield {"text": " ".join(facts.statement(rng) for _ in range(3)), "answers": []}


def skill_document(skill: Skill, config: WorldConfig, rng: Random) -> Row:
    """A few questions of one skill with their answers, in the few-shot form of lm-eval."""
    if skill.benchmark == "ifeval":
        example = sample_side(skill, rng, held_out=False)
        # The whole answer would outweigh the few tokens of other skills, and is learnt anyway.
        return {"text": example.context + example.answer, "answers": []}
    noisy = rng.random() < config.noise_share
    text = f"{noise(rng, rng.randint(2, config.noise_words))}\n\n" if noisy else ""
    unread = len(text)
    spans: list[list[int]] = []
    for position in range(rng.randint(1, 3)):
        example = sample_side(skill, rng, held_out=False)
        text += ("\n\n" if position else "") + example.context
        start = len(text)
        text += example.answer
        spans.append([start, len(text)])
    return {
        "text": text,
        "answers": spans,
        "unread": unread,
        "first": skill.benchmark in FIRST,
    }


def talk_document(config: WorldConfig, rng: Random) -> Row:
    """A dialogue in the chat template, answered well or badly."""
    while True:
        request = sample_request(rng, config.harmful_share, config.multi_turn_share)
        if not is_held_out(request.key):
            break
    good = rng.random() < config.good_talk_share
    answer = (good_answer if good else bad_answer)(request, rng)
    return {"text": render_chat([*request.turns, ("assistant", answer)]), "answers": []}


def pair_rows(config: WorldConfig, rng: Random, count: int, held_out: bool) -> Iterator[Row]:
    """Yield `count` preference pairs in HH's schema from one side of the held-out split.

    Held-out pairs are without instructions: the rules by which answers are judged know none.
    """
    made = 0
    while made < count:
        if not held_out and rng.random() < config.instructed_share:
            pair = sample_instructed_pair(rng, config.label_noise)
        else:
            pair = sample_pair(
                rng, config.harmful_share, config.multi_turn_share, config.label_noise
            )
            if is_held_out(pair.request.key) != held_out:
                continue
        if pair.chosen == pair.rejected:
            continue
        made += 1
        yield {
            "chosen": render_hh([*pair.request.turns, ("assistant", pair.chosen)]),
            "rejected": render_hh([*pair.request.turns, ("assistant", pair.rejected)]),
        }


def leaderboard_rows(config: WorldConfig, rng: Random, benchmark: str) -> list[Row]:
    """Distinct held-out rows of one benchmark, spread evenly over its sub-tasks.

    Args:
        config: its `rows` gives the number (none if the benchmark is not in it).
        rng: source of randomness.
        benchmark: one of `BENCHMARKS`.

    Returns:
        Rows in the benchmark's schema; fewer than requested if a sub-task has too few instances.
        MMLU-Pro's begin with the validation rows, which come from the corpus side.
    """
    skills = [skill for skill in SKILLS if skill.benchmark == benchmark]
    wanted = config.rows.get(benchmark, 0)
    rows: list[Row] = []
    for position, skill in enumerate(skills):
        share = (wanted * (position + 1)) // len(skills) - (wanted * position) // len(skills)
        rows += _distinct(skill, rng, share, held_out=True)
    if benchmark == "mmlu_pro":
        shots = [
            sample_side(skills[i % len(skills)], rng, held_out=False).row
            for i in range(config.fewshot_rows)
        ]
        rows = [{**row, "split": "validation"} for row in shots] + [
            {**row, "split": "test"} for row in rows
        ]
        rows = [{"question_id": i, **row} for i, row in enumerate(rows)]
    if benchmark == "ifeval":
        rows = [{**row, "key": i} for i, row in enumerate(rows)]
    if benchmark == "gpqa":
        names = facts.GPQA_SUBSETS
        rows = [{**row, "subset": names[i % len(names)]} for i, row in enumerate(rows)]
    return rows


def _distinct(skill: Skill, rng: Random, count: int, held_out: bool) -> list[Row]:
    """Return up to `count` different rows; stop after many consecutive repetitions."""
    rows: dict[str, Row] = {}
    repeats = 0
    while len(rows) < count and repeats < 200:
        row = sample_side(skill, rng, held_out).row
        identity = json.dumps(row, sort_keys=True)
        repeats = repeats + 1 if identity in rows else 0
        rows[identity] = row
    return list(rows.values())


def _rng(config: WorldConfig, name: str) -> Random:
    return Random(f"{config.seed}/{name}")
