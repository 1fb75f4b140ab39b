"""Token maps as one self-contained page: no request leaves it, and all text in it stays text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from sparsepo.analysis.maps import QUANTITIES, ModelMaps, document

COLOURS = {"negative": "#e6954a", "zero": "#ffffff", "positive": "#6aa9e0", "high": "#4fb3a1"}
"""Orange to blue through white, and white to green: told apart with every common colour blindness,
and light enough for dark text on their ends."""

INK = "#111111"
"""The text on them."""

DIGITS = 6
"""Significant digits of a number in the page, which shows four."""


def render_page(models: Sequence[ModelMaps], title: str = "Token maps") -> str:
    """Return the page of some models' maps of the same pairs, side by side.

    Args:
        models: at least one.
        title: its heading.
    """
    return render_document(document(models), title)


def render_document(maps: Mapping[str, Any], title: str = "Token maps") -> str:
    """Return the page of maps in their JSON form.

    Args:
        maps: from `sparsepo.analysis.maps.document`.
        title: its heading.
    """
    folder = resources.files("sparsepo.analysis") / "templates"
    style, script = ((folder / f"heatmap.{end}").read_text("utf-8") for end in ("css", "js"))
    template = jinja2.Environment(autoescape=True).from_string(
        (folder / "heatmap.html").read_text("utf-8")
    )
    data = {
        "document": _rounded(maps),
        "quantities": [asdict(quantity) for quantity in QUANTITIES],
        "colours": COLOURS,
    }
    return template.render(
        title=title,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        # "<" is written as an escape, so that no text ends the script element.
        maps=htmlsafe_json_dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False),
    )


def _hash(text: str) -> str:
    """Return how a content security policy names an inline element."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
