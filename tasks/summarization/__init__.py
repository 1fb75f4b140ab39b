"""Summarization of posts: TL;DR's readers and filters, and an embedded world."""
