"""A sentence splitter for IFEval on machines without nltk's ``punkt_tab``.

Two IFEval instructions (number of sentences, words in capitals) split text with nltk's Punkt model,
which nltk downloads. Where it is installed it is used. Otherwise the same algorithm (nltk's own
Punkt code) runs with the abbreviations below instead of the trained parameters. The two differ on
unusual abbreviations and initials only; results say which one was in force.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Literal

SplitterName = Literal["punkt_tab", "punkt with built-in abbreviations"]

# Lower-case, without the final full stop: the form in which Punkt stores abbreviation types.
_WORDS = """
    mr mrs ms dr prof sr jr st rev hon gen col capt lt sgt maj cmdr gov sen rep pres supt det
    inc ltd co corp bros dept univ assn e.g i.e etc vs cf al ca approx est fig figs no nos vol
    pp p ch sec ed eds op jan feb mar apr jun jul aug sept sep oct nov dec mon tue tues wed thu
    thur thurs fri sat sun a.m p.m u.s u.k u.n u.s.a e.u ph.d m.d b.a m.a b.sc m.sc d.c ave blvd
    rd mt ft oz lb lbs min max hr hrs tel ext
"""
ABBREVIATIONS: frozenset[str] = frozenset(_WORDS.split())

_active: SplitterName | None = None


def ensure_sentence_splitter() -> SplitterName:
    """Make sure that nltk finds an English Punkt model, without touching the network.

    Call it before lm-eval's IFEval code is imported: that code downloads the model at import when
    nltk does not find one.

    Returns:
        Which splitter is in force: the real ``punkt_tab`` or the built-in abbreviations.
    """
    global _active
    if _active is not None:
        return _active
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
        _active = "punkt_tab"
    except LookupError:
        root = Path(tempfile.mkdtemp(prefix="sparsepo-punkt-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        write_punkt_tables(root / "tokenizers" / "punkt_tab" / "english")
        nltk.data.path.append(str(root))
        _active = "punkt with built-in abbreviations"
    return _active


def write_punkt_tables(directory: Path) -> None:
    """Write the four files of a Punkt model that knows abbreviations only.

    Args:
        directory: Where to write; made if it does not exist.
    """
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    (directory / "abbrev_types.txt").write_text(
        "\n".join(sorted(ABBREVIATIONS)) + "\n", encoding="utf-8"
    )
    for name in ("collocations.tab", "sent_starters.txt", "ortho_context.tab"):
        (directory / name).write_text("", encoding="utf-8")
