"""The experiments on sentiment: Figures 1, 2, 3, 4, 7 and 9, and checks beyond the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.domains.common.rows import PAPER_METHODS, method_rows
from harness.domains.common.spec import (
    PERCENT,
    ColumnSpec,
    DynamicsSpec,
    Experiment,
    FigureSpec,
    RowSpec,
    TableSpec,
    percentage,
)


@dataclass(frozen=True, kw_only=True)
class FrontierFigure(TableSpec):
    """The frontier of reward and KL; its table has an additional column for each KL budget."""


@dataclass(frozen=True, kw_only=True)
class DynamicsFigure(DynamicsSpec):
    """Masks and token KL of the first row during training."""

    ranks: bool = False
    """Whether its table shows how well the masks of all rows find the tokens that decide."""


@dataclass(frozen=True, kw_only=True)
class TokenMapFigure(FigureSpec):
    """Token values of one held-out pair, under the model of each row."""

    pair: int = 0
    """Index of the held-out pair [ours]."""
    quantities: tuple[str, ...]
    """Quantities that colour the tokens; fields of sparsepo.analysis' maps."""
    responses: tuple[str, ...] = ("chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class NoiseTable(TableSpec):
    """Reward after training with flipped pairs; its columns follow from `noise.shares`."""


MaskSource = Literal["none", "own", "frozen", "same", "other", "shuffled", "oracle"]


@dataclass(frozen=True)
class TransferRow(RowSpec):
    """A row that is trained with the masks of some source."""

    mask: MaskSource = "none"
    """none: without masks; own: learned with the policy; and masks that are given and constant:
    frozen: those of "own" after training; same, other: those that a model of the same or of another
    architecture has learned; shuffled: those of "same", shuffled within each response; oracle: 1 on
    the decisive tokens."""

    @property
    def given(self) -> bool:
        """Whether the masks are given rather than learned."""
        return self.mask not in ("none", "own")


@dataclass(frozen=True, kw_only=True)
class TransferTable(TableSpec):
    """Training with masks of other models; it also has a column for each KL budget."""


@dataclass(frozen=True)
class OnPolicyRow(RowSpec):
    """A row that is trained on samples of its policy."""

    iterates: bool = False
    """Whether the policy is sampled once for `on_policy.iteration_steps` optimizer steps."""


@dataclass(frozen=True, kw_only=True)
class OnPolicyTable(TableSpec):
    """Training on samples of the policy; its baseline stands for a row at each β of the sweep."""

    ordered: tuple[tuple[str, str], ...]
    """Ids of two rows each, of which an article says that the first has more diverse samples."""


AT_ONE_BETA = (TokenMapFigure, NoiseTable, TransferTable, OnPolicyTable)
"""Experiments with one β for all rows that set none themselves, `sweep.map_beta`."""
SCORED = (FrontierFigure, NoiseTable, TransferTable, OnPolicyTable)
"""Experiments that score the responses sampled during training."""


def ranks_tokens(experiment: Experiment) -> bool:
    """Tell whether an experiment measures how well masks find the decisive tokens."""
    if isinstance(experiment, DynamicsFigure):
        return experiment.ranks
    return isinstance(experiment, NoiseTable | TransferTable)


FIGURE1 = TokenMapFigure(
    id="figure1",
    domain="sentiment",
    title="DPO's token rewards on one text",
    rows=method_rows("dpo"),
    quantities=("rewards",),
    responses=("chosen",),
)
"""Figure 1: DPO's token rewards on one text [ours]."""

FIGURE2 = FrontierFigure(
    id="figure2",
    varied="beta",
    domain="sentiment",
    title="Sentiment control: the frontier of ground-truth reward and KL to the reference",
    rows=method_rows(*PAPER_METHODS),
    columns=(percentage("hypervolume", "Hypervolume"),),
    baseline="dpo",
    reference="sft",
    tunable=True,
    untuned=("sft",),
)
"""Figure 2: ground-truth reward against response-level KL, over β, γ and training steps."""

FIGURE3 = DynamicsFigure(
    id="figure3",
    domain="sentiment",
    title="Sparsity of SparsePO's independent masks and token KL during training, chosen responses",
    rows=method_rows("sparsepo-independent", "dpo"),
    response="chosen",
    ranks=True,
)
"""Figure 3: sparsity of both masks and token KL during training for each β, chosen responses.

Beside it [ours]: whether the masks find the tokens that decide, for which DPO is a comparison."""

FIGURE4 = TokenMapFigure(
    id="figure4",
    domain="sentiment",
    title="Token rewards and token KL after the masks, the chosen response of a pair",
    rows=method_rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
    quantities=("masked_rewards", "masked_kl"),
    responses=("chosen",),
)
"""Figure 4: (a) reward maps and (b) KL maps of a chosen response; which text is [ours]."""

FIGURE7 = DynamicsFigure(
    id="figure7",
    domain="sentiment",
    title="Sparsity of SparsePO's independent masks and token KL during training, rejected "
    "responses",
    rows=method_rows("sparsepo-independent"),
    response="rejected",
)
"""Figure 7: the same as Figure 3 over rejected responses."""

FIGURE9 = TokenMapFigure(
    id="figure9",
    domain="sentiment",
    title="Token rewards and token KL after the masks, the rejected response of the same pair",
    rows=method_rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
    quantities=("masked_rewards", "masked_kl"),
    responses=("rejected",),
)
"""Figure 9: the maps of Figure 4's pair for its rejected response.

The paper's has the KL maps, (b); the reward maps above them are [ours]."""

NOISE = NoiseTable(
    id="noise",
    domain="sentiment",
    title="Label noise: reward after training with a share of the pairs flipped",
    rows=method_rows(*PAPER_METHODS),
    columns=(),
    baseline="dpo",
    reference="sft",
)
"""Beyond the paper: which methods cope with flipped pairs, and whether their masks do [ours]."""

_GIVEN = {"mask_kind": "given", "l1_reward": 0.0, "l1_kl": 0.0}
_SOURCES: Mapping[MaskSource, str] = {
    "own": "its own",
    "frozen": "its own, frozen",
    "same": "same architecture",
    "other": "other architecture",
    "shuffled": "same architecture, shuffled",
}


def _masked_rows(setup: str, method: str) -> tuple[TransferRow, ...]:
    """One row per source of masks; `setup` is "independent" or "common"."""
    title = "Independent masks" if setup == "independent" else "Common mask"
    return tuple(
        TransferRow(
            f"{source}-{setup}",
            method,
            f"{title}: {label}",
            {} if source == "own" else _GIVEN,
            mask=source,
        )
        for source, label in _SOURCES.items()
    )


TRANSFER = TransferTable(
    id="transfer",
    domain="sentiment",
    title="Transferred masks: training with the masks that another model has learned",
    rows=(
        *method_rows("sft", "dpo", "tdpo1"),
        *_masked_rows("independent", "sparsepo-independent"),
        *_masked_rows("common", "sparsepo-common"),
        TransferRow("oracle", "sparsepo-common", "Oracle mask", _GIVEN, mask="oracle"),
    ),
    columns=(
        percentage("reward", "Reward"),
        ColumnSpec("kl", "KL", higher_is_better=None),
    ),
    baseline="tdpo1",
    reference="sft",
)
"""Beyond the paper: is a mask a property of the data, which another model can use? [ours]"""

_DIVERGENCES = {
    "kl": "f-DPG (KL)",
    "reverse-kl": "f-DPG (reverse KL)",
    "js": "f-DPG (Jensen-Shannon)",
    "tv": "f-DPG (total variation)",
}

ON_POLICY = OnPolicyTable(
    id="on-policy",
    domain="sentiment",
    title="On-policy training: reward, KL and diversity of policies that are trained on their own "
    "samples",
    rows=(
        *method_rows("sft", "dpo"),
        OnPolicyRow("online-dpo", "dpo", "Online DPO"),
        OnPolicyRow("inpo", "inpo", "INPO", iterates=True),
        *(
            OnPolicyRow(f"f-dpg-{name}", "f-dpg", label, {"divergence": name})
            for name, label in _DIVERGENCES.items()
        ),
        OnPolicyRow("grpo", "grpo", "GRPO"),
        OnPolicyRow("ppo", "ppo", "PPO"),
        OnPolicyRow("rto", "rto", "RTO"),
    ),
    columns=(
        percentage("reward", "Reward"),
        ColumnSpec("kl", "KL", higher_is_better=None),
        ColumnSpec("over_frontier", "Over DPO's frontier"),
        ColumnSpec("self_bleu", "self-BLEU", higher_is_better=False, bounds=PERCENT),
    ),
    baseline="dpo",
    reference="sft",
    ordered=(
        *(("f-dpg-kl", other) for other in ("f-dpg-js", "f-dpg-tv", "f-dpg-reverse-kl")),
        *((other, "f-dpg-reverse-kl") for other in ("f-dpg-js", "f-dpg-tv")),
    ),
)
"""Beyond the paper: do methods that sample their policy gain more than DPO on given pairs? [ours]

Its order of diversity is that of f-DPG's article, arXiv 2302.08215."""

EXPERIMENTS = (FIGURE1, FIGURE2, FIGURE3, FIGURE4, FIGURE7, FIGURE9, NOISE, TRANSFER, ON_POLICY)
