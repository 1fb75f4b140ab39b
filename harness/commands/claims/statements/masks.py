"""Claims about the masks themselves: Figures 3 and 4, and sparsity by domain."""

from harness.commands.claims.claim import Claim
from harness.commands.claims.columns import Absent, TableColumn
from harness.commands.claims.mask_measures import MaskDynamics
from harness.commands.claims.predicates import All, above, below

_SPARSE_ABOVE = 50.0
"""Percent of zeros from which a mask counts as sparse [ours]."""
_AUROC = TableColumn("transfer", "auroc")


def _shape(quantity: str) -> MaskDynamics:
    return MaskDynamics("figure3", quantity)


MASKS = (
    Claim(
        "F3.start",
        "3.2",
        "Figure 3",
        "The reward mask's sparsity starts high, rises a little, then falls until the end.",
        f"Over β, its mean at the start is above {_SPARSE_ABOVE:g} %; it rises in the first third "
        "of training and falls from there to the end.",
        All(
            (
                above(_shape("start"), "all", by=_SPARSE_ABOVE),
                above(_shape("rise"), "all"),
                below(_shape("fall"), "all"),
            )
        ),
    ),
    Claim(
        "F3.beta",
        "3.2",
        "Figure 3",
        "A larger β slows that fall, up to a middle β; beyond it the trend turns.",
        "The change of the reward mask's sparsity after the first third rises with ln β in the "
        "lower half of the β values, and falls in the upper half.",
        All((above(_shape("fall_lower"), "all"), below(_shape("fall_upper"), "all"))),
    ),
    Claim(
        "F3.kl",
        "3.2",
        "Figure 3",
        "A larger β gives a sparser KL mask and a lower token KL throughout.",
        "Means over training: the KL mask's sparsity rises with ln β, token KL falls.",
        All((above(_shape("kl_mask_slope"), "all"), below(_shape("kl_slope"), "all"))),
    ),
    Claim(
        "F3.mid",
        "3.2",
        "Figure 3",
        "At low β the reward mask is sparse and the KL mask dense, at high β both are sparse; "
        "between them they are balanced.",
        "Smallest β: the reward mask has more zeros than the KL mask; largest β: both have more "
        f"than {_SPARSE_ABOVE:g} %; middle β: their sparsities differ less than at the smallest.",
        All(
            (
                above(_shape("gap_low"), "all"),
                above(_shape("reward_high"), "all", by=_SPARSE_ABOVE),
                above(_shape("kl_mask_high"), "all", by=_SPARSE_ABOVE),
                above(_shape("gap_middle"), "all"),
            )
        ),
    ),
    Claim(
        "F4.select",
        "3.2",
        "Figure 4",
        "The independent reward mask picks the words of clear polarity, the common one more.",
        "AUROC of the masks for the decisive tokens: that of the independent reward mask is above "
        "chance and above that of the common mask.",
        All(
            (
                above(_AUROC, "own-independent", by=50.0),
                above(_AUROC, "own-independent", "own-common"),
            )
        ),
    ),
    Claim(
        "F4.kl",
        "3.2",
        "Figure 4",
        "TDPO keeps most tokens near the reference; masks let single tokens diverge more.",
        "The distribution of token KL over the tokens of held-out responses.",
        above(
            Absent(
                ("figure4",),
                "Figure 4 shows one text of one chain, and no result has the distribution of "
                "token KL over chains",
            ),
            "all",
        ),
    ),
    Claim(
        "D.domain",
        "5",
        "Figures 3, 6",
        "Sparsity at the best setting is higher for sentiment than for code and summarization.",
        "The sparsity of the masks at the best setting, domain by domain.",
        above(
            Absent(
                ("figure3", "figure6", "figure5"),
                "the results of summarization and dialogue do not hold the sparsity of their masks",
            ),
            "all",
        ),
    ),
)
