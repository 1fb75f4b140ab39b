"""Claims of Figure 2: reward against KL."""

from harness.commands.claims.claim import BASELINES, SCORE_MARGIN, SPARSE, Claim
from harness.commands.claims.columns import TableColumn
from harness.commands.claims.frontier_measures import SHARE_LIMIT, Frontier
from harness.commands.claims.predicates import (
    All,
    above,
    below,
    every_above,
    slightly_below,
    within,
)

_LAST_KL, _LAST_REWARD = Frontier("last_kl"), Frontier("last_reward")
_LARGEST_KL, _BEST = Frontier("largest_kl"), Frontier("best_reward")
_HIGH = Frontier("high_kl", BASELINES)
_MODERATE = TableColumn("figure2", "reward_5")
_LOSS = 5.0
"""Points that still count as a slight loss of reward [ours]."""

SENTIMENT = (
    Claim(
        "F2.dpop",
        "3.2",
        "Figure 2",
        "DPOP stays closest to the reference, and its reward is lower than the others'.",
        "Over β at the last step, DPOP's mean KL and mean reward are below those of each other "
        "method.",
        All(
            tuple(
                below(measure, "dpop", other)
                for measure in (_LAST_KL, _LAST_REWARD)
                for other in ("dpo", "tdpo1", "tdpo2", "simpo", "mapo", *SPARSE)
            )
        ),
    ),
    Claim(
        "F2.simpo",
        "3.2",
        "Figure 2",
        "SimPO and TDPO v1 go further from the reference, and gain more, than DPOP and TDPO v2.",
        "The largest KL and the best reward of both are above those of DPOP and of TDPO v2.",
        All(
            tuple(
                every_above(measure, ("simpo", "tdpo1"), ("dpop", "tdpo2"))
                for measure in (_LARGEST_KL, _BEST)
            )
        ),
    ),
    Claim(
        "F2.tdpo2",
        "3.2",
        "Figure 2",
        "TDPO v2 has a slightly larger KL than v1, and no higher reward.",
        "Over β at the last step, v2's mean KL is above v1's; its best reward is not "
        f"{SCORE_MARGIN:g} points or more above v1's.",
        All((above(_LAST_KL, "tdpo2", "tdpo1"), below(_BEST, "tdpo2", "tdpo1", SCORE_MARGIN))),
        SCORE_MARGIN,
    ),
    Claim(
        "F2.mapo",
        "3.2",
        "Figure 2",
        "MaPO dominates at moderate KL: above DPO, level with SimPO and TDPO v1.",
        "At a budget of 5 nats, MaPO's reward is above DPO's, and within "
        f"{SCORE_MARGIN:g} points of SimPO's and TDPO v1's.",
        All(
            (
                above(_MODERATE, "mapo", "dpo"),
                within(_MODERATE, "mapo", "simpo", SCORE_MARGIN),
                within(_MODERATE, "mapo", "tdpo1", SCORE_MARGIN),
            )
        ),
        SCORE_MARGIN,
    ),
    Claim(
        "F2.range",
        "3.2",
        "Figure 2",
        "Both SparsePO cover a larger range of KL than any baseline, with more points at high KL.",
        "The largest KL of both is above each baseline's; so is their share of points beyond "
        f"{100 * SHARE_LIMIT:g} % of the baselines' largest KL.",
        All(tuple(every_above(measure, SPARSE, BASELINES) for measure in (_LARGEST_KL, _HIGH))),
    ),
    Claim(
        "F2.indep",
        "3.2",
        "Figure 2",
        "Independent masks reach MaPO's reward.",
        f"The best reward is not {SCORE_MARGIN:g} points or more below MaPO's.",
        above(_BEST, "sparsepo-independent", "mapo", -SCORE_MARGIN),
        SCORE_MARGIN,
    ),
    Claim(
        "F2.common",
        "3.2",
        "Figure 2",
        "The common mask pays for its range with a slight loss of reward.",
        f"The best reward is below MaPO's, by less than {_LOSS:g} points.",
        slightly_below(_BEST, "sparsepo-common", "mapo", _LOSS),
        _LOSS,
    ),
)
