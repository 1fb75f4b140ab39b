"""Text as LaTeX source."""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "{": r"\{",
    "}": r"\}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\textasciigrave{}",
    # At the beginning of a row, LaTeX would read these as an argument of the preceding \\.
    "[": "{[}",
    "*": "{*}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{SOFT HYPHEN}": r"\-",
}
_SYMBOLS = {
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "„": ",,",
    "…": r"\dots{}",
    "·": r"\textperiodcentered{}",
    "•": r"\textbullet{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "°": r"\textdegree{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
# Commands of LaTeX itself, none of which needs a package.
_MATH = {
    "−": "-",
    "×": r"\times",
    "÷": r"\div",
    "±": r"\pm",
    "∓": r"\mp",
    "⋅": r"\cdot",
    "∘": r"\circ",
    "≤": r"\leq",
    "≥": r"\geq",
    "≠": r"\neq",
    "≈": r"\approx",
    "≡": r"\equiv",
    "∼": r"\sim",
    "≃": r"\simeq",
    "∝": r"\propto",
    "≪": r"\ll",
    "≫": r"\gg",
    "∞": r"\infty",
    "∑": r"\sum",
    "∏": r"\prod",
    "∫": r"\int",
    "√": r"\surd",
    "∂": r"\partial",
    "∇": r"\nabla",
    "∈": r"\in",
    "∉": r"\notin",
    "∋": r"\ni",
    "∅": r"\emptyset",
    "∩": r"\cap",
    "∪": r"\cup",
    "⊂": r"\subset",
    "⊃": r"\supset",
    "⊆": r"\subseteq",
    "⊇": r"\supseteq",
    "∧": r"\wedge",
    "∨": r"\vee",
    "¬": r"\neg",
    "∀": r"\forall",
    "∃": r"\exists",
    "⊥": r"\perp",
    "‖": r"\|",
    "∥": r"\parallel",
    "∣": r"\mid",
    "⊕": r"\oplus",
    "⊗": r"\otimes",
    "⊙": r"\odot",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow",
    "⇐": r"\Leftarrow",
    "⇔": r"\Leftrightarrow",
    "↦": r"\mapsto",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "⌊": r"\lfloor",
    "⌋": r"\rfloor",
    "⌈": r"\lceil",
    "⌉": r"\rceil",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    "ℓ": r"\ell",
    "ℜ": r"\Re",
    "ℑ": r"\Im",
    "′": r"\prime",
    "▲": r"\triangle",
    "▼": r"\nabla",
    "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
}
_GREEK_COMMANDS = {
    "alpha", "beta", "gamma", "delta", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "o", "pi", "phi", "rho", "sigma", "varsigma", "tau", "upsilon", "chi", "psi",
    "omega",
}  # fmt: skip
_LETTERS = {"LAMDA": "lambda", "FINAL SIGMA": "varsigma", "OMICRON": "o"}
_LATIN_CAPITALS = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K",
    "MU": "M", "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X",
}  # fmt: skip
"""Greek capitals that look like Latin ones, for which LaTeX has no command."""
_VARIANTS = {
    "µ": r"\mu",
    "ϑ": r"\vartheta",
    "ϕ": r"\phi",
    "φ": r"\varphi",
    "ϖ": r"\varpi",
    "ϱ": r"\varrho",
    "ϵ": r"\epsilon",
    "ε": r"\varepsilon",
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING DOT BELOW}": "d",
    "\N{COMBINING MACRON BELOW}": "b",
}
_LIGATURES = "-,'"
"""Characters that LaTeX joins to another one if repeated, such as a dash."""
_BELOW = "cdb"
"""Accents below the letter."""


def escape(text: str) -> str:
    r"""Return the LaTeX source of a text.

    Special characters are escaped; Greek letters, mathematical symbols and accented Latin letters
    become commands of LaTeX itself, without a package. Other characters stay unchanged, in UTF-8,
    which LuaLaTeX and XeLaTeX read; a character that cannot be printed, such as a control
    character, is written as its code point, "U+0007".

    Args:
        text: any text; line breaks and tabs become spaces.
    """
    source, before = [], ""
    for character in unicodedata.normalize("NFC", text):
        if character == before and character in _LIGATURES:
            source.append("{}")
        source.append(_escape_one(character))
        before = character
    return "".join(source)


def _escape_one(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() and character.isprintable():
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character in _MATH:
        return f"${_MATH[character]}$"
    if character.isspace():
        return " "
    letter = _greek(character)
    if letter:
        return f"${letter}$"
    category = unicodedata.category(character)
    if category in {"Cc", "Cs", "Cn", "Co"}:
        return f"U+{ord(character):04X}"
    return _accented(character) or character


def _greek(character: str) -> str:
    if character in _VARIANTS:
        return _VARIANTS[character]
    found = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z ]+)", unicodedata.name(character, ""))
    if found is None:
        return ""
    size, name = found.groups()
    if size == "CAPITAL" and name in _LATIN_CAPITALS:
        return rf"\mathrm{{{_LATIN_CAPITALS[name]}}}"
    command = _LETTERS.get(name, name.lower())
    if command not in _GREEK_COMMANDS:
        return ""
    if command == "o":
        return command
    return "\\" + (command.capitalize() if size == "CAPITAL" else command)


def _accented(character: str) -> str:
    """Return the command for an accented Latin letter; empty for anything else."""
    letter, *accents = list(unicodedata.normalize("NFD", character))
    if not (letter.isascii() and letter.isalpha() and len(accents) == 1):
        return ""
    command = _ACCENTS.get(accents[0])
    if command is None:
        return ""
    # An i or j has no dot below an accent.
    dotless = letter in "ij" and command not in _BELOW
    return rf"\{command}{{{chr(92) if dotless else ''}{letter}}}"
