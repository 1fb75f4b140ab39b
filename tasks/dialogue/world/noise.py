"""Meaningless text before a question, similar to a benchmark's real few-shot examples.

lm-eval puts its own few-shot questions, which must not be in the world's corpus, before the world's
questions; they would confuse a model that has only seen clean windows.
"""

from __future__ import annotations

from random import Random

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"


def pseudo_word(rng: Random) -> str:
    """Return a word of one to four syllables that (almost certainly) has no meaning."""
    syllables = rng.randint(1, 4)
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables)) + (
        rng.choice(CONSONANTS) if rng.random() < 0.5 else ""
    )


def noise(rng: Random, words: int) -> str:
    """Return about `words` pseudo-words and numbers, with the punctuation of real prompts."""
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
