"""Profiles, and what a user changes in them."""
