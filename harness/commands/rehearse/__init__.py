"""A run on stand-ins for the hub's models and data: what would fail on day three fails early."""

from harness.commands.rehearse.command import rehearse

__all__ = ["rehearse"]
