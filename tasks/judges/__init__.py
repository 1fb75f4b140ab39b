"""Judges of two responses to a prompt, behind one interface, with a journal of their verdicts."""
