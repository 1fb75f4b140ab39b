"""`python -m harness report`: one static site from the results of all experiments."""

from __future__ import annotations

from harness.commands.report.make import Report, make_report

__all__ = ["Report", "make_report"]
