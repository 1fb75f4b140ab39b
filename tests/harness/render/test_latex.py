"""Any text becomes LaTeX that shows it: nothing is replaced, nothing left unescaped."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from harness.render.latex import escape

texts = st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("β chosen by pass@10", r"$\beta$ chosen by pass@10"),
        ("KL(π‖π_ref)", r"KL($\pi$$\|$$\pi$\_ref)"),
        ("γ, Γ, Α, ς, ο", r"$\gamma$, $\Gamma$, $\mathrm{A}$, $\varsigma$, $o$"),
        ("100 % of A&B #1 $2", r"100 \% of A\&B \#1 \$2"),
        (r"a\b{c}~d^e", r"a\textbackslash{}b\{c\}\textasciitilde{}d\textasciicircum{}e"),
        ("Gödel, naïve", r'G\"{o}del, na\"{\i}ve'),
        ("Čapek, Ångström", r'\v{C}apek, \r{A}ngstr\"{o}m'),
        ("ça", r"\c{c}a"),
        ("e\N{COMBINING ACUTE ACCENT}", r"\'{e}"),
        ("--set a=1", r"-{}-set a=1"),
        ("[1, 2] *", "{[}1, 2] {*}"),
        ("2 × 3 ≤ 7 … – ½", r"2 $\times$ 3 $\leq$ 7 \dots{} -- $\frac{1}{2}$"),
        ("偏好", "偏好"),
        ("a\nb\tc", "a b c"),
        ("bell \a", "bell U+0007"),
        ("why?", "why?"),
    ],
)  # fmt: skip
def test_examples(text: str, source: str) -> None:
    assert escape(text) == source


@given(texts)
def test_no_character_becomes_a_question_mark(text: str) -> None:
    assert escape(text).count("?") == unicodedata.normalize("NFC", text).count("?")


@given(texts)
def test_special_characters_are_escaped_and_braces_and_dollars_match(text: str) -> None:
    source = escape(text)
    # What a backslash escapes is taken away; what is left has its special meaning.
    bare = re.sub(r"\\[&%#_${}~^\"'`.=\-|]", "", source)
    assert not set(bare) & set("&%#~^") - ({"~"} if "\xa0" in text else set())
    assert "_" not in bare
    assert bare.count("$") % 2 == 0
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


@given(texts, texts)
def test_lines_and_control_characters_cannot_break_a_table(first: str, second: str) -> None:
    source = escape(f"{first}\n{second}")
    assert not {c for c in source if unicodedata.category(c) in {"Cc", "Cs"}}
    assert source.encode()
    # At the beginning of a row these would be taken for an argument of the line break before it.
    assert not source.lstrip().startswith(("[", "*"))


@given(st.text(alphabet=string.ascii_letters + string.digits + " .:;()/+=@", max_size=40))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


@given(st.characters(min_codepoint=0x80, categories=("L", "N", "S", "P", "M")))
def test_other_characters_are_commands_or_themselves(character: str) -> None:
    source = escape(character)
    kept = unicodedata.normalize("NFC", character)
    assert source.isascii() or source == kept


GREEK = [chr(code) for code in (*range(0x391, 0x3AA), *range(0x3B1, 0x3CA)) if code != 0x3A2]
MATH = "−×÷±∓⋅∘≤≥≠≈≡∼≃∝≪≫∞∑∏∫∂∇∈∉∋∅∩∪⊂⊃⊆⊇∧∨¬∀∃⊥‖∥∣⊕⊗⊙→←↔⇒⇐⇔↦↑↓⌊⌋⌈⌉⟨⟩ℓℜℑ′½¼¾"


@pytest.mark.parametrize("character", [*GREEK, *MATH])
def test_greek_and_mathematics_are_commands_that_a_parser_of_tex_knows(character: str) -> None:
    source = escape(character)
    assert source.isascii()
    assert source.startswith("$") and source.endswith("$")
    # mathtext knows left and right delimiters and accents in expressions only.
    if character not in "⌊⌋⌈⌉⟨⟩∼′":
        MathTextParser("path").parse(source)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_commands_and_escapes_compile_without_any_package(tmp_path: Path) -> None:
    text = (
        string.printable + "".join(GREEK) + MATH + "Ångström Čapek ça naïve ı ß ø ł ° „x“ ▲▼ \a µ"
    )
    source = escape(text)
    assert source.isascii()
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\begin{{document}}\n{source}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
