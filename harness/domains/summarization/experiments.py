"""The experiments on summarization: Figure 5, and win rates."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domains.common.rows import PAPER_METHODS, method_rows
from harness.domains.common.spec import PERCENT, UNBOUNDED, Bounds, TableSpec
from harness.domains.common.winrate.spec import winrate_table


@dataclass(frozen=True)
class MetricSpec:
    """One quantity, which is drawn and listed at each temperature."""

    id: str
    """A metric's name in tasks.metrics.text, or "coverage", "faithfulness", "preference"."""
    label: str
    scale: float = 100.0
    """Factor of the shown values."""
    higher_is_better: bool | None = True
    bounds: Bounds = PERCENT
    between_samples: bool = False
    """Whether it compares the samples of a post, which are all the same at temperature 0: methods
    are not compared there."""


@dataclass(frozen=True, kw_only=True)
class TemperatureFigure(TableSpec):
    """Metrics against the sampling temperature; its columns follow from the profile."""

    panels: tuple[MetricSpec, ...]
    """The paper's panels, whose comparisons are one family for Holm's adjustment."""
    beyond: tuple[MetricSpec, ...]
    """Further quantities, another family."""
    trade_off: tuple[str, str]
    """The metrics on the trade-off's axes, across and up."""
    matched: tuple[str, ...]
    """Metrics that are compared at equal values of the first of them."""


FIGURE5 = TemperatureFigure(
    id="figure5",
    domain="summarization",
    title="Summarization: metrics of sampled summaries against the temperature",
    rows=method_rows(*PAPER_METHODS),
    columns=(),
    baseline="dpo",
    reference="sft",
    panels=(
        MetricSpec("rougeL", "ROUGE-L"),
        MetricSpec("bertscore", "BERTScore", bounds=(-100.0, 100.0)),
        # Neither direction is better: samples that are all the same have 100.
        MetricSpec(
            "self_bleu", "self-BLEU", scale=1.0, higher_is_better=None, between_samples=True
        ),
        MetricSpec("edna", "EDNA", between_samples=True),
    ),
    beyond=(
        MetricSpec("coverage", "Coverage"),
        MetricSpec("faithfulness", "Faithfulness"),
        MetricSpec("preference", "True preference"),
        MetricSpec("summac", "Document entailment", bounds=UNBOUNDED),
        MetricSpec("length", "Length (words)", 1.0, None, (0.0, None)),
    ),
    trade_off=("self_bleu", "rougeL"),
    matched=("rougeL", "bertscore"),
)
"""Figure 5: four metrics against temperature, and the trade-off that the text argues from."""

WINRATE = winrate_table("summarization", "Win rates of summaries")
"""A judge compares each method's summaries with the chosen ones, and with DPO's."""

EXPERIMENTS = (FIGURE5, WINRATE)
