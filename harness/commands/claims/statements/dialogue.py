"""Claims of Table 1 and of the abstract about dialogue."""

from harness.commands.claims.claim import ALIGNED, BASELINES, MASKED, SCORE_MARGIN, SPARSE, Claim
from harness.commands.claims.columns import Changes, TableColumn
from harness.commands.claims.predicates import (
    All,
    Any,
    above,
    below,
    every_above,
    every_below,
    some_above_all,
)

_AVG, _BBH, _MATH, _GPQA, _MUSR, _PRO, _INST, _PROM = (
    TableColumn("table1", id)
    for id in (
        "avg",
        "bbh",
        "math_hard",
        "gpqa",
        "musr",
        "mmlu_pro",
        "ifeval_inst",
        "ifeval_prom",
    )
)
_REASONING = (_BBH, _MATH, _GPQA, _MUSR, _PRO)
_CHANGES = Changes(
    "table1",
    "mean change from SFT",
    (*(one.id for one in _REASONING), _INST.id, _PROM.id),
    ALIGNED,
    "sft",
)
_WIN = TableColumn("winrate-dialogue", "win_chosen")

DIALOGUE = (
    Claim(
        "T1.tax",
        "3.3",
        "Table 1",
        "Preference optimization costs skills: each method has a lower average than SFT.",
        "For all eight methods, the average of the seven columns is below SFT's.",
        every_below(_AVG, ALIGNED, ("sft",)),
    ),
    Claim(
        "T1.best",
        "3.3",
        "Table 1",
        "MaPO and both SparsePO keep the highest averages of all preference optimization.",
        "Each of the three has a higher average than each of the five baselines.",
        every_above(_AVG, MASKED, BASELINES),
    ),
    Claim(
        "T1.gain",
        "abstract",
        "Table 1",
        "Masks improve reasoning over other preference optimization, by up to two points.",
        "In some reasoning column, one of the three is above one of the baselines; the size of the "
        "gain is not tested.",
        Any(
            tuple(
                above(column, ours, other)
                for column in _REASONING
                for ours in MASKED
                for other in BASELINES
            )
        ),
    ),
    Claim(
        "T1.math",
        "3.3",
        "Table 1",
        "MATH: MaPO is above all other rows, and a SparsePO is second.",
        "MaPO is above every row, SFT included; one SparsePO is above SFT and every baseline.",
        All(
            (
                every_above(_MATH, ("mapo",), ("sft", *BASELINES, *SPARSE)),
                some_above_all(_MATH, SPARSE, ("sft", *BASELINES)),
            )
        ),
    ),
    Claim(
        "T1.bbh",
        "3.3",
        "Table 1",
        "BBH: a SparsePO is first, MaPO next.",
        "One SparsePO is above MaPO, SFT and every baseline; MaPO is above SFT and every baseline.",
        All(
            (
                some_above_all(_BBH, SPARSE, ("mapo", "sft", *BASELINES)),
                every_above(_BBH, ("mapo",), ("sft", *BASELINES)),
            )
        ),
    ),
    Claim(
        "T1.musr",
        "3.3",
        "Table 1",
        "MuSR: a SparsePO is first, TDPO v2 second.",
        "One SparsePO is above TDPO v2, and TDPO v2 above SFT, MaPO and the other baselines.",
        All(
            (
                some_above_all(_MUSR, SPARSE, ("tdpo2",)),
                every_above(
                    _MUSR,
                    ("tdpo2",),
                    ("sft", "dpo", "tdpo1", "simpo", "dpop", "mapo"),
                ),
            )
        ),
    ),
    Claim(
        "T1.know",
        "3.3",
        "Table 1",
        "GPQA and MMLU-Pro: masks bring nothing over the baselines.",
        f"In both columns, none of the three is {SCORE_MARGIN:g} points or more above the mean of "
        "the baselines.",
        All(
            tuple(
                below(column, ours, BASELINES, SCORE_MARGIN)
                for column in (_GPQA, _PRO)
                for ours in MASKED
            )
        ),
        SCORE_MARGIN,
    ),
    Claim(
        "T1.ifeval",
        "3.3",
        "Table 1",
        "IFEval loses most against SFT; masks keep more of it than the baselines, less than SFT.",
        "The methods' mean change from SFT is lower in both IFEval columns than in each other one; "
        "there each of the three is above the mean of the baselines and below SFT.",
        All(
            (
                every_below(
                    _CHANGES,
                    (_INST.id, _PROM.id),
                    tuple(one.id for one in _REASONING),
                ),
                *(
                    part
                    for column in (_INST, _PROM)
                    for ours in MASKED
                    for part in (above(column, ours, BASELINES), below(column, ours, "sft"))
                ),
            )
        ),
    ),
    Claim(
        "T1.win",
        "abstract",
        "win rates",
        "Dialogue: SparsePO wins more often than the baselines, by three points.",
        "One SparsePO has a higher win rate against the chosen responses than each baseline; the "
        "size of the gain is not tested.",
        some_above_all(_WIN, SPARSE, BASELINES),
    ),
)
