"""Texts in a language that an encoder does not know.

Two signs are looked at: the script of each text, and what language its references are in. A text
of another script has no value. Another language in the same script has one, which means little; it
is named in a note, because the language of a short text cannot be told with certainty.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tasks.metrics.text.base import package_version

ANY_LANGUAGE = "any"
_ENOUGH_LETTERS = 400
"""Letters below which langdetect's answer is not asked for."""
_MOST_LETTERS = 2_000


def in_latin_script(text: str) -> bool:
    """Return whether at least half of a text's letters are Latin; True without letters."""
    letters = [character for character in text if character.isalpha()]
    latin = sum(
        character.isascii() or unicodedata.name(character, "").startswith("LATIN")
        for character in letters
    )
    return 2 * latin >= len(letters)


def unreadable(text: str, language: str) -> str | None:
    """Return why an encoder of English cannot read a text, or ``None`` if it can.

    Args:
        text: what would be encoded.
        language: of the encoder: ``en``, or ``any`` for a multilingual one.
    """
    if language == ANY_LANGUAGE or in_latin_script(text):
        return None
    return "the text is in a script that the encoder does not know"


def language_notes(texts: Sequence[str], language: str) -> list[str]:
    """Return a note if texts, taken together, are not in the language of the encoder.

    Args:
        texts: references or documents.
        language: of the encoder: ``en``, or ``any`` for a multilingual one.
    """
    if language == ANY_LANGUAGE:
        return []
    joined = " ".join(dict.fromkeys(texts))[:_MOST_LETTERS]
    if sum(character.isalpha() for character in joined) < _ENOUGH_LETTERS:
        return []
    package_version("langdetect", "langdetect", "The check of the texts' language")
    from langdetect import DetectorFactory, LangDetectException, detect_langs

    DetectorFactory.seed = 0
    try:
        best = detect_langs(joined)[0]
    except LangDetectException:
        return []
    if best.lang == language or best.prob < 0.95:
        return []
    return [
        f"The texts seem to be in another language ({best.lang}) than the encoder's ({language}); "
        "their values mean little."
    ]
