"""Verifiable instructions in IFEval's schema: nine of its 25 kinds, with short correct answers.

The instructions use IFEval's wording; lm-eval's own checkers judge the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tasks.dialogue.world.chat import render_chat
from tasks.dialogue.world.example import Example, Skill
from tasks.dialogue.world.talk import TOPICS, WRITING, Topic, indefinite

ENDINGS = ("Any other questions?", "That is all.", "Good luck.")
KEYWORDS = ("sun", "moon", "star", "rain", "snow", "wind")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its id, its text in the prompt, its arguments, and how to follow it."""

    id: str
    words: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    obey: Callable[[str], str] = str
    """From a plain text to one that follows the instruction."""


def no_comma(rng: Random, topic: Topic) -> Instruction:
    """Use no comma: true of every plain text here, so only the talk around can break it."""
    return Instruction("punctuation:no_comma", "Do not use any commas.")


def quotation(rng: Random, topic: Topic) -> Instruction:
    """Wrap the answer in quotation marks."""
    words = "Wrap your entire response with double quotation marks."
    return Instruction("startend:quotation", words, obey=lambda text: f'"{text}"')


def end_checker(rng: Random, topic: Topic) -> Instruction:
    """End with a given phrase."""
    phrase = rng.choice(ENDINGS)
    return Instruction(
        "startend:end_checker",
        f"Finish your response with this exact phrase: {phrase}",
        {"end_phrase": phrase},
        lambda text: f"{text} {phrase}",
    )


def title(rng: Random, topic: Topic) -> Instruction:
    """Put a title in double angular brackets first."""
    return Instruction(
        "detectable_format:title",
        "Add a title wrapped in double angular brackets.",
        obey=lambda text: f"<<{topic.name}>>\n{text}",
    )


def postscript(rng: Random, topic: Topic) -> Instruction:
    """Add a postscript."""
    return Instruction(
        "detectable_content:postscript",
        "At the end add a postscript starting with P.S.",
        {"postscript_marker": "P.S."},
        lambda text: f"{text}\nP.S. I like {indefinite(topic)}.",
    )


def bullets(rng: Random, topic: Topic) -> Instruction:
    """Give an exact number of bullet points."""
    count = rng.choice((2, 3))

    def obey(text: str) -> str:
        facts = (text, *(fact for fact in topic.facts() if fact != text))
        return "\n".join(f"* {fact}" for fact in facts[:count])

    return Instruction(
        "detectable_format:number_bullet_lists",
        f"Your answer must contain exactly {count} bullet points.",
        {"num_bullets": count},
        obey,
    )


def placeholders(rng: Random, topic: Topic) -> Instruction:
    """Leave placeholders in square brackets."""
    count = rng.choice((1, 2))
    marks = " ".join(("[name]", "[date]")[:count])
    return Instruction(
        "detectable_content:number_placeholders",
        f"Use at least {count} placeholders in square brackets.",
        {"num_placeholders": count},
        lambda text: f"{text} {marks}",
    )


def highlight(rng: Random, topic: Topic) -> Instruction:
    """Highlight a section with asterisks."""
    return Instruction(
        "detectable_format:number_highlighted_sections",
        "Highlight at least 1 section with markdown.",
        {"num_highlights": 1},
        lambda text: f"*{topic.name}* {text}",
    )


def keyword(rng: Random, topic: Topic) -> Instruction:
    """Mention a keyword that is unrelated to the topic."""
    word = rng.choice(KEYWORDS)
    return Instruction(
        "keywords:existence",
        f"Include the keyword {word} in the response.",
        {"keywords": [word]},
        lambda text: f"{text} I see the {word}.",
    )


KINDS: tuple[Callable[[Random, Topic], Instruction], ...] = (
    # In the order in which they are followed: instructions that wrap the whole answer come last, so
    # that two of them can be combined.
    bullets,
    keyword,
    placeholders,
    highlight,
    no_comma,
    title,
    postscript,
    end_checker,
    quotation,
)

CLASHES = frozenset(
    {
        frozenset(pair)
        for pair in (
            # Text next to a list line becomes part of it, and asterisks count as bullets.
            (bullets, keyword),
            (bullets, highlight),
            (bullets, placeholders),
            (bullets, quotation),
            (title, quotation),
            (highlight, quotation),
            (postscript, end_checker),
        )
    }
)
"""Pairs of kinds that one prompt never combines."""


@dataclass(frozen=True, slots=True)
class Task:
    """A request for a text, with the instructions that the text shall follow."""

    topic: Topic
    prompt: str
    instructions: tuple[Instruction, ...]

    @property
    def key(self) -> str:
        """Identity for the held-out split."""
        return f"ifeval/{self.prompt}"

    def follow(self, text: str) -> str:
        """Return a text changed so that it follows every instruction."""
        for instruction in self.instructions:
            text = instruction.obey(text)
        return text


def compose(kinds: Sequence[Callable[[Random, Topic], Instruction]], rng: Random) -> Example:
    """One prompt with the given kinds of instructions, and an answer that follows them all."""
    task, answer = _drawn(kinds, rng)
    return Example(
        key=task.key,
        context=render_chat([("user", task.prompt)], generation_prompt=True),
        answer=answer,
        row={
            "key": 0,
            "prompt": task.prompt,
            "instruction_id_list": [instruction.id for instruction in task.instructions],
            "kwargs": [instruction.kwargs for instruction in task.instructions],
        },
    )


def _drawn(
    kinds: Sequence[Callable[[Random, Topic], Instruction]], rng: Random
) -> tuple[Task, str]:
    topic = rng.choice(TOPICS)
    wanted = tuple(kind(rng, topic) for kind in sorted(kinds, key=KINDS.index))
    answer = rng.choice(topic.facts())
    request = rng.choice(WRITING).format(a=indefinite(topic))
    prompt = " ".join([request, *(instruction.words for instruction in wanted)])
    task = Task(topic, prompt, wanted)
    return task, task.follow(answer)


def _kinds(rng: Random, two_share: float = 0.3) -> Sequence[Callable[[Random, Topic], Instruction]]:
    if rng.random() >= two_share:
        return [rng.choice(KINDS)]
    while True:
        kinds = rng.sample(KINDS, 2)
        if frozenset(kinds) not in CLASHES:
            return kinds


def sample(rng: Random) -> Example:
    """Draw a prompt with one instruction, or with two compatible ones."""
    return compose(_kinds(rng), rng)


def sample_task(rng: Random) -> Task:
    """Draw what `sample` asks for, without its answer."""
    return _drawn(_kinds(rng), rng)[0]


SKILLS = (Skill("ifeval", "ifeval", sample, weight=3.0),)
