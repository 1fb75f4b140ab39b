"""Claims of Figure 5 and of the abstract about summarization."""

from harness.commands.claims.claim import BASELINES, SCORE_MARGIN, SPARSE, Claim
from harness.commands.claims.columns import MeanColumn, TableColumn
from harness.commands.claims.predicates import All, above, below, some_above_all, within

_OURS, _OTHERS = "sparsepo-common", ("dpo", "tdpo1", "tdpo2")
_MATCHED = (TableColumn("figure5", "rougeL_matched"), TableColumn("figure5", "bertscore_matched"))
_TEMPERATURES = ("0", "0.25", "0.5", "0.75", "1")
_EDNA = MeanColumn(
    "figure5", "EDNA, mean over temperatures", tuple(f"edna_{t}" for t in _TEMPERATURES)
)
_HOTTEST = TableColumn("figure5", "rougeL_1")
_COLDEST = TableColumn("figure5", "rougeL_0")
_WIN = TableColumn("winrate-summarization", "win_chosen")

SUMMARIZATION = (
    Claim(
        "F5.trade",
        "3.4",
        "Figure 5",
        "At comparable self-BLEU, SparsePO with a common mask has a higher ROUGE-L and BERTScore "
        "than DPO and both TDPO.",
        "At equal self-BLEU, its difference from DPO is above 0 and above those of TDPO v1 and v2, "
        "for both metrics.",
        All(
            tuple(
                part
                for column in _MATCHED
                for part in (
                    above(column, _OURS),
                    above(column, _OURS, "tdpo1"),
                    above(column, _OURS, "tdpo2"),
                )
            )
        ),
    ),
    Claim(
        "F5.edna",
        "3.4",
        "Figure 5",
        "SparsePO with a common mask pays with a lower EDNA.",
        "Its EDNA, averaged over temperatures, is below that of DPO and of both TDPO.",
        All(tuple(below(_EDNA, _OURS, other) for other in _OTHERS)),
    ),
    Claim(
        "F5.temp",
        "3.4",
        "Figure 5",
        "The methods differ less as the temperature rises, and not at all at the highest.",
        "At temperature 0, SparsePO with a common mask has a higher ROUGE-L than DPO and both "
        f"TDPO; at 1, it is within {SCORE_MARGIN:g} points of each.",
        All(
            (
                *(above(_COLDEST, _OURS, other) for other in _OTHERS),
                *(within(_HOTTEST, _OURS, other, SCORE_MARGIN) for other in _OTHERS),
            )
        ),
        SCORE_MARGIN,
    ),
    Claim(
        "F5.win",
        "abstract",
        "win rates",
        "Summarization: SparsePO wins more often than the baselines, by ten points.",
        "One SparsePO has a higher win rate against the chosen summaries than each baseline; the "
        "size of the gain is not tested.",
        some_above_all(_WIN, SPARSE, BASELINES),
    ),
)
