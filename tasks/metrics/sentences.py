"""A sentence splitter on machines without nltk's ``punkt_tab``, for IFEval and SummaC.

Two IFEval instructions (number of sentences, words in capitals) and SummaC split text with nltk's
Punkt model, which nltk downloads. Where it is installed it is used. Otherwise the same algorithm
(nltk's own Punkt code) runs with the abbreviations in ``nltk_data`` beside this file instead of the
trained parameters. The two differ only on unusual abbreviations and initials; results record which
one was used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

SplitterName = Literal["punkt_tab", "punkt with built-in abbreviations"]

BUILT_IN = Path(__file__).parent / "nltk_data"
"""A Punkt model that knows abbreviations only: lower-case, without the final full stop, the form in
which Punkt stores them; its other three tables are empty."""

_active: SplitterName | None = None


def ensure_sentence_splitter() -> SplitterName:
    """Make sure that nltk finds an English Punkt model, without touching the network.

    Call it before lm-eval's IFEval code is imported: that code downloads the model at import when
    nltk does not find one.

    Returns:
        The splitter in use: the real ``punkt_tab`` or the built-in abbreviations.
    """
    global _active
    if _active is not None:
        return _active
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
        _active = "punkt_tab"
    except LookupError:
        nltk.data.path.append(str(BUILT_IN))
        _active = "punkt with built-in abbreviations"
    return _active
