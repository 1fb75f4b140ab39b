"""Writes reviews: an opening, some sentences with opinions and facts, and an end.

Each review consists of pieces that are marked as decisive or not. Polarity words, and a "not" or
"very" before them, are decisive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from sparsepo.data.jsonl import write_jsonl
from tasks.sentiment.world import words
from tasks.sentiment.world.config import ReviewWorldConfig


@dataclass(frozen=True, slots=True)
class Review:
    """One review of the world."""

    text: str
    label: int
    """1 if more of its opinions are positive, else 0; IMDB's column."""
    deciding: tuple[tuple[int, int], ...]
    """Character spans [start, end) of the words that carry the reward, in order."""


Polarity = Callable[[], bool]
"""Draws the polarity of the next opinion."""


class _Pieces:
    """A text under construction."""

    def __init__(self) -> None:
        self.text = ""
        self.deciding: list[tuple[int, int]] = []

    def add(self, text: str) -> None:
        self.text += text

    def decide(self, word: str) -> None:
        self.deciding.append((len(self.text), len(self.text) + len(word)))
        self.text += word


def write_review(config: ReviewWorldConfig, rng: Random) -> Review:
    """Write one review.

    Args:
        config: lengths and shares.
        rng: source of all randomness.
    """
    mixed = rng.random() < config.mixed_share
    leaning = 0.5 if mixed else config.leaning if rng.random() < 0.5 else 1 - config.leaning
    drawn: list[bool] = []

    def polarity() -> bool:
        drawn.append(rng.random() < leaning)
        return drawn[-1]

    pieces = _Pieces()
    rng.choices(_OPENINGS, _OPENING_WEIGHTS)[0](pieces, rng, polarity)
    for _ in range(rng.randint(*config.sentences)):
        pieces.add(" ")
        if rng.random() < config.opinion_share:
            _opinion(pieces, config, rng, polarity)
        else:
            _fact(pieces, rng)
    return Review(pieces.text, int(2 * sum(drawn) > len(drawn)), tuple(pieces.deciding))


def review_rows(config: ReviewWorldConfig, split: str) -> Iterator[dict[str, Any]]:
    """Yield the reviews of a split in IMDB's schema, with the decisive spans as a third column.

    Args:
        config: sizes, shares and the seed.
        split: "train" or "test".
    """
    rng = Random(f"{config.seed}/reviews/{split}")
    count = config.train_reviews if split == "train" else config.test_reviews
    for _ in range(count):
        review = write_review(config, rng)
        spans = [list(span) for span in review.deciding]
        yield {"text": review.text, "label": review.label, "deciding": spans}


def write_reviews(config: ReviewWorldConfig, directory: Path) -> None:
    """Write `train.jsonl` and `test.jsonl`; equal configurations give equal bytes.

    Args:
        config: sizes, shares and the seed.
        directory: created if missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        write_jsonl(review_rows(config, split), directory / f"{split}.jsonl")


# --- openings: their first five to eight tokens are a prompt --------------------------------------


def _watched(pieces: _Pieces, rng: Random, polarity: Polarity) -> None:
    watched = rng.choice(("I saw this", "I watched this", "We saw the", "We watched the"))
    film, other, time = (rng.choice(x) for x in (words.FILMS, words.COMPANIONS, words.TIMES))
    pieces.add(f"{watched} {film} with my {other} {time}.")


def _told(pieces: _Pieces, rng: Random, polarity: Polarity) -> None:
    job, place = rng.choice(words.JOBS), rng.choice(words.PLACES)
    follows = rng.choice(("follows", "is about", "shows"))
    film = rng.choice(words.FILMS)
    pieces.add(f"This {film} {follows} {words.article(job)} {job} from {place}.")


def _dated(pieces: _Pieces, rng: Random, polarity: Polarity) -> None:
    film, place, year = (rng.choice(x) for x in (words.FILMS, words.PLACES, words.YEARS))
    pieces.add(f"The {film} was shot in {place} in {year}.")


def _judged(pieces: _Pieces, rng: Random, polarity: Polarity) -> None:
    film, time = rng.choice(words.FILMS), rng.choice(words.TIMES)
    pieces.add(f"The {film} I saw {time} was ")
    _adjective(pieces, rng, polarity())
    pieces.add(".")


_OPENINGS = (_watched, _told, _dated, _judged)
_OPENING_WEIGHTS = (4, 3, 2, 1)


# --- opinions -----------------------------------------------------------------------------------


def _opinion(pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity) -> None:
    rng.choices(_OPINIONS, _OPINION_WEIGHTS)[0](pieces, config, rng, polarity)
    pieces.add(".")


def _adjective(pieces: _Pieces, rng: Random, positive: bool) -> None:
    pieces.decide(rng.choice(words.POSITIVE_ADJECTIVES if positive else words.NEGATIVE_ADJECTIVES))


def _aspect_was(
    pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity
) -> None:
    pieces.add(f"The {rng.choice(words.ASPECTS)} {rng.choice(words.COPULAS)} ")
    positive, draw = polarity(), rng.random()
    if draw < config.negation_share:
        pieces.decide(words.NEGATION)
        pieces.add(" ")
        positive = not positive
    elif draw < config.negation_share + config.booster_share:
        pieces.decide(words.BOOSTER)
        pieces.add(" ")
    _adjective(pieces, rng, positive)


def _two_aspects(
    pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity
) -> None:
    first, second = rng.sample(words.ASPECTS, 2)
    pieces.add(f"The {first} was ")
    _adjective(pieces, rng, polarity())
    pieces.add(f" and the {second} was ")
    _adjective(pieces, rng, polarity())


def _i_felt(pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity) -> None:
    pieces.add(rng.choice(("I ", "We ", "My " + rng.choice(words.COMPANIONS) + " ")))
    pieces.decide(rng.choice(words.POSITIVE_VERBS if polarity() else words.NEGATIVE_VERBS))
    pieces.add(f" the {rng.choice(words.ASPECTS)}")


def _it_has(pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity) -> None:
    adjectives = words.POSITIVE_ADJECTIVES if polarity() else words.NEGATIVE_ADJECTIVES
    adjective = rng.choice(adjectives)
    pieces.add(f"It has {words.article(adjective)} ")
    pieces.decide(adjective)
    pieces.add(f" {rng.choice(words.COUNTABLE_ASPECTS)}")


def _it_is(pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity) -> None:
    pieces.add("It is a ")
    pieces.decide(rng.choice(words.POSITIVE_NOUNS if polarity() else words.NEGATIVE_NOUNS))
    pieces.add(f" from {rng.choice(('start to end', 'end to end', 'the first scene'))}")


def _role_brings(
    pieces: _Pieces, config: ReviewWorldConfig, rng: Random, polarity: Polarity
) -> None:
    pieces.add(f"The {rng.choice(words.ROLES)} brings ")
    pieces.decide(rng.choice(words.POSITIVE_QUALITIES if polarity() else words.NEGATIVE_QUALITIES))
    pieces.add(f" to the {rng.choice(words.ASPECTS)}")


_OPINIONS = (_aspect_was, _two_aspects, _i_felt, _it_has, _it_is, _role_brings)
_OPINION_WEIGHTS = (5, 2, 3, 3, 1, 2)


# --- neutral facts ------------------------------------------------------------------------------


def _fact(pieces: _Pieces, rng: Random) -> None:
    kind = rng.randrange(7)
    aspect, adjective = rng.choice(words.ASPECTS), rng.choice(words.NEUTRAL_ADJECTIVES)
    place, thing = rng.choice(words.PLACES), rng.choice(words.THINGS)
    job = rng.choice(words.JOBS)
    pieces.add(
        (
            f"The {aspect} {rng.choice(words.COPULAS)} {adjective}.",
            f"It runs for {rng.choice(words.NUMBERS)} minutes.",
            f"It takes place in {place}.",
            f"The {job} walks to the {thing}.",
            f"It has {words.article(adjective)} {adjective} {rng.choice(words.COUNTABLE_ASPECTS)}.",
            f"It was not filmed in {place}.",
            f"Then the {rng.choice(words.ROLES)} finds {words.article(thing)} {thing}.",
        )[kind]
    )
