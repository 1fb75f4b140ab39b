"""The embedded world of sentiment control: seeded movie reviews with known decisive words."""

from tasks.sentiment.world.config import ReviewWorldConfig
from tasks.sentiment.world.write import Review, review_rows, write_review, write_reviews

__all__ = ["Review", "ReviewWorldConfig", "review_rows", "write_review", "write_reviews"]
