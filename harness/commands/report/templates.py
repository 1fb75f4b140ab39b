"""The templates and files of the site; all text is escaped, and pages have no inline script."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img")),
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""The content security policy of every page: only files of the site, and no inline code."""


class Templates:
    """Renders pages."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["policy"] = POLICY
        self._environment.filters["number"] = number
        self._environment.filters["span"] = span

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a page.

        Args:
            template: its file.
            values: what it shows.

        Raises:
            ValueError: a value that the template needs is missing.
        """
        try:
            return self._environment.get_template(template).render(values)
        except jinja2.TemplateRuntimeError as error:
            raise ValueError(str(error)) from None

    def copy_assets(self, folder: Path) -> None:
        """Copy scripts and the style sheet."""
        shutil.copytree(_HERE / "assets", folder)


def number(value: Any, digits: int = 3) -> str:
    """Return a number with a few significant digits and a real minus sign; "–" for None."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return str(value).replace("-", "−")
    size = abs(value)
    text = f"{value:.2f}" if size >= 1 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def span(value: Any) -> str:
    """Return an interval as [low, high]; empty for None."""
    return "" if value is None else f"[{number(value[0])}, {number(value[1])}]"
