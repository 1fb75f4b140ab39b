"""Checks of a method, built in or plugged in, with verdicts that its author can read."""

from sparsepo.conformance.checks import CHECKS
from sparsepo.conformance.verdicts import Verdict, check_method

__all__ = ["CHECKS", "Verdict", "check_method"]
