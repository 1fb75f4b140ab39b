"""Claims of Table 2 and Figure 6."""

from harness.commands.claims.claim import SCORE_MARGIN, SPARSE, Claim
from harness.commands.claims.columns import MeanColumn, TableColumn
from harness.commands.claims.mask_measures import MaskDynamics
from harness.commands.claims.predicates import (
    All,
    Any,
    above,
    below,
    every_above,
    slightly_below,
    within,
)

_KS = (1, 10, 100)
_HUMANEVAL = tuple(TableColumn("table2", f"humaneval_pass@{k}") for k in _KS)
_MBPP = tuple(TableColumn("table2", f"mbpp_pass@{k}") for k in _KS)
_MEAN = MeanColumn(
    "table2", "mean of the six columns", tuple(one.id for one in (*_HUMANEVAL, *_MBPP))
)
_OTHERS = ("dpo", "tdpo1", "tdpo2", "simpo", "mapo")
_LOSS = 5.0
"""Points that still count as a slight loss of pass@k [ours]."""
_STEADY = 6.0
"""Points within which the paper's curves stay."""


def _shape(quantity: str) -> MaskDynamics:
    return MaskDynamics("figure6", quantity)


CODE = (
    Claim(
        "T2.base",
        "3.5",
        "Table 2",
        "Every method of preference optimization is above the base model.",
        "The mean of the six columns is above that of the base model, for all seven methods.",
        every_above(_MEAN, (*_OTHERS, *SPARSE), ("base",)),
    ),
    Claim(
        "T2.dpo",
        "3.5",
        "Table 2",
        "DPO is the best on HumanEval at every k.",
        "DPO's pass@1, 10 and 100 are above those of each other method.",
        All(
            tuple(
                above(column, "dpo", other)
                for column in _HUMANEVAL
                for other in (*_OTHERS[1:], *SPARSE)
            )
        ),
    ),
    Claim(
        "T2.par",
        "3.5",
        "Table 2",
        "SparsePO is on par with the other methods, but worse in pass@100 of HumanEval.",
        f"Both are within {SCORE_MARGIN:g} points of the mean of the other methods in pass@1 and "
        "pass@10 of both benchmarks, and below it in pass@100 of HumanEval.",
        All(
            (
                *(
                    within(column, ours, _OTHERS, SCORE_MARGIN)
                    for column in (*_HUMANEVAL[:2], *_MBPP[:2])
                    for ours in SPARSE
                ),
                *(below(_HUMANEVAL[2], ours, _OTHERS) for ours in SPARSE),
            )
        ),
        SCORE_MARGIN,
    ),
    Claim(
        "T2.mbpp100",
        "3.5",
        "Table 2",
        "MBPP: a SparsePO is above DPO in pass@100, with a slight loss in pass@1 and pass@10.",
        "One SparsePO is above DPO in pass@100, and below it by less than "
        f"{_LOSS:g} points in pass@1 and pass@10.",
        Any(
            tuple(
                All(
                    (
                        above(_MBPP[2], ours, "dpo"),
                        slightly_below(_MBPP[0], ours, "dpo", _LOSS),
                        slightly_below(_MBPP[1], ours, "dpo", _LOSS),
                    )
                )
                for ours in SPARSE
            )
        ),
        _LOSS,
    ),
    Claim(
        "F6.stable",
        "3.5",
        "Figure 6",
        "Code: the reward mask is much denser than the KL mask, both are steady during training, "
        "and a larger β gives a lower KL.",
        "The KL mask has more zeros than the reward mask; the range of each during training, mean "
        f"over β, is below {_STEADY:g} points; token KL falls with ln β.",
        All(
            (
                above(_shape("denser"), "all"),
                below(_shape("reward_range"), "all", by=_STEADY),
                below(_shape("kl_mask_range"), "all", by=_STEADY),
                below(_shape("kl_slope"), "all"),
            )
        ),
        _STEADY,
    ),
)
