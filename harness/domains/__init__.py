"""The domains of experiments; each is a folder, imported on demand."""

from __future__ import annotations

import importlib
from typing import Any

from harness.domains.common.domain import Domain

DOMAINS = ("dialogue", "dialogue.ablations", "sentiment", "summarization", "code")


def get_domain(name: str) -> Domain[Any, Any]:
    """Return a domain by name."""
    domain: Domain[Any, Any] = importlib.import_module(f"harness.domains.{name}").DOMAIN
    return domain
