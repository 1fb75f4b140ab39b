"""What a judge's questions will cost at most, before the first one is asked."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.judges.base import Item
from tasks.judges.prompt import Task, question
from tasks.judges.settings import JudgeSettings

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly."""


@dataclass(frozen=True)
class CostEstimate:
    """An estimate without what is journalled already, which is not asked again."""

    comparisons: int
    calls: int
    """Both orders of every comparison."""
    prompt_tokens: int
    completion_tokens: int
    price: float | None
    """In the currency of the prices; None without prices."""

    def sentence(self, settings: JudgeSettings) -> str:
        """Return the estimate as one sentence."""
        price = (
            "no price is known (set judge.price_in and judge.price_out, per million tokens)"
            if self.price is None
            else f"at the given prices {self.price:,.2f}"
        )
        return (
            f"Judging asks {settings.model} at {settings.url} at most {self.calls:,} times "
            f"({self.comparisons:,} comparisons in both orders) with about "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} generated tokens: "
            f"{price}."
        )


def estimate_cost(
    settings: JudgeSettings,
    task: Task,
    comparisons: int,
    prompt_tokens: int,
    response_tokens: int,
) -> CostEstimate:
    """Estimate what comparisons cost.

    Args:
        settings: the judge, with prices where they are known.
        task: what is compared.
        comparisons: how many.
        prompt_tokens: of the longest prompt that is shown.
        response_tokens: of the longest response.

    Returns:
        Each comparison is asked twice, with the judge's longest answer.
    """
    frame = len(str(question(Item("", "", "", ""), task)[0]["content"])) // CHARACTERS_PER_TOKEN
    calls = 2 * comparisons
    asked = calls * (frame + prompt_tokens + 2 * response_tokens)
    answered = calls * settings.max_tokens
    price = None
    if settings.price_in is not None and settings.price_out is not None:
        price = (asked * settings.price_in + answered * settings.price_out) / 1e6
    return CostEstimate(comparisons, calls, asked, answered, price)
