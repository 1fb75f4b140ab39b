"""Text without meaning to stand before a question, as a benchmark's real few-shots do.

lm-eval puts its own few-shot questions, which the world's corpus must not hold, in front of the
world's; a model that only ever saw clean windows would be thrown off by them.
"""

from __future__ import annotations

from random import Random

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"


def pseudo_word(rng: Random) -> str:
    """A word of one to four syllables that (almost surely) means nothing."""
    syllables = rng.randint(1, 4)
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables)) + (
        rng.choice(CONSONANTS) if rng.random() < 0.5 else ""
    )


def noise(rng: Random, words: int) -> str:
    """About `words` pseudo-words and numbers, with the punctuation and markup of real prompts."""
    parts: list[str] = []
    for _ in range(words):
        word = pseudo_word(rng)
        if rng.random() < 0.2:
            word = word.capitalize()
        if rng.random() < 0.08:
            word = str(rng.randint(0, 2030))
        if rng.random() < 0.06:
            word = rng.choice(("\\{}{{", "${}$", "({})", '"{}"', "- {}")).format(word)
        word += rng.choices(("", ",", ".", ":", "?", "\n"), (80, 6, 8, 2, 2, 6))[0]
        parts.append(word)
    return " ".join(parts)
