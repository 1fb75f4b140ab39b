"""Token maps as one self-contained page that makes no requests and escapes all text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from sparsepo.analysis.quantities import COLOURS, QUANTITIES
from sparsepo.analysis.rounding import rounded

if TYPE_CHECKING:
    from sparsepo.analysis.maps import ModelMaps


def render_page(models: Sequence[ModelMaps], title: str = "Token maps") -> str:
    """Return the page with several models' maps of the same pairs, side by side.

    Args:
        models: the maps of at least one model.
        title: heading of the page.
    """
    from sparsepo.analysis.maps import document

    return render_document(document(models), title)


def render_document(maps: Mapping[str, Any], title: str = "Token maps") -> str:
    """Return the page for maps in their JSON form.

    Args:
        maps: the result of `sparsepo.analysis.maps.document`.
        title: heading of the page.
    """
    folder = resources.files("sparsepo.analysis") / "templates"
    style, script = ((folder / f"token_maps.{end}").read_text("utf-8") for end in ("css", "js"))
    template = jinja2.Environment(autoescape=True).from_string(
        (folder / "token_maps.html").read_text("utf-8")
    )
    data = {
        "document": rounded(maps),
        "quantities": [asdict(quantity) for quantity in QUANTITIES],
        "colours": COLOURS,
    }
    return template.render(
        title=title,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        # "<" is escaped, because text could otherwise end the script element.
        maps=htmlsafe_json_dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False),
    )


def _hash(text: str) -> str:
    """Return the source expression of an inline element in a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
