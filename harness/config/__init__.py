"""Profiles, and the user's changes to them."""
