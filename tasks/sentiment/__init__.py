"""Sentiment control: movie reviews, rewards, preference pairs sampled from a model."""
