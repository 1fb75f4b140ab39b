"""MaPO: TDPO v1 with one mask computed from the reference model's activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from sparsepo.errors import require_choice
from sparsepo.methods.base import Needs, required
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.masked import MaskedMethod
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import TokenStats

MASK_FAMILIES = ("mlp", "attention", "residual", "logits")
"""The families of activations; docs/methods.md lists what each captures."""


@dataclass(frozen=True)
class MaPO(MaskedMethod):
    """The masked loss with an activation mask m on both terms.

    L = −log σ(β[(Σ m r_w − Σ m r_l) − (Σ m k_l − Σ m k_w)]). Source: arXiv 2410.05102.
    `mask_families` names the families averaged into m, joined by "+"; `mask_mapping` is applied to
    m afterwards.
    """

    name: ClassVar[str] = "mapo"
    title: ClassVar[str] = "MaPO"
    source: ClassVar[str] = "arXiv 2410.05102, MaPO"
    needs: ClassVar[Needs] = Needs(kl=True, mask="activation")
    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    mask_families: str = hyper_parameter(
        "+".join(MASK_FAMILIES),
        "Families of activations that are averaged into the mask, joined by +.",
        source="[code]",
    )
    mask_mapping: Literal["none", "sigmoid", "rescale"] = hyper_parameter(
        "none",
        "What is applied to the mask: nothing, a sigmoid, or rescaling to [0, 1] again.",
        source="[code]",
        choices=("none", "sigmoid", "rescale"),
    )

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        # `--set mask_families=3` arrives as a number.
        named = self.families if isinstance(self.mask_families, str) else (self.mask_families,)
        for family in named:
            require_choice("mask_families", family, MASK_FAMILIES)

    @property
    def families(self) -> tuple[str, ...]:
        """The families whose activations make up the mask."""
        return tuple(self.mask_families.split("+"))

    def masks(self, stats: TokenStats) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return reward_mask for both terms."""
        mask = required(stats.reward_mask, "reward_mask")
        return mask, mask
