"""The paper's claims, each tested on the results at hand."""

from harness.commands.claims.evaluate import claims_json

__all__ = ["claims_json"]
