"""The command line: ``python -m harness run | plan | draw | report | publish | list | …``."""

from harness.cli.entry import main
from harness.cli.parser import build_parser

__all__ = ["build_parser", "main"]
