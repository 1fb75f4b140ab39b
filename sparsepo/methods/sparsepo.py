"""SparsePO: learned sparse masks on the log-ratios and on the token KL (arXiv 2410.05102)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.errors import UserError
from sparsepo.methods.base import Needs, require_range, required, response_sum
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.masked import MaskedMethod
from sparsepo.methods.search_space import (
    BETA,
    L1_WEIGHT,
    LEARNING_RATE,
    MASK_LEARNING_RATE,
    SearchSpace,
)
from sparsepo.types import TokenStats

L1_SHARE: Final = 0.5
"""With `l1_limit="preference"`, the largest share of the preference's pull on a mask's size that
the L1 norm may take back [ours]."""

NormTerm = tuple[float, Tensor]
"""Weight λ of a mask's L1 norm, and the preference's pull on the mask, (B,)."""

INITIAL_SPARSITY: Final = {"scaled": 10.0, "paper": 90.0}
"""`mask_init` → percent of zeros that a mask starts with, or may start with [ours]."""


@dataclass(frozen=True)
class LearnedMaskMethod(MaskedMethod):
    """Abstract: the masked loss with learned masks, their L1 weights and their architecture.

    `l1_reward` and `l1_kl` are λ_u and λ_d. With `l1_limit="preference"` [ours] the norm of a
    pair's mask never takes back more than half of what the preference adds to the mask's size;
    `none` is the paper's loss. `mask_weight_decay` and `mask_learning_rate` apply to
    the masks' optimizer group; `mask_dropout`, `mask_layers`, `mask_feed_forward` and `mask_kind`
    describe the networks. With `mask_kind=given` there are none: the masks are read from a file.

    `mask_init` [ours]: `scaled` starts with `mask_initial_sparsity` percent zeros and a mean of
    0.1; `paper` keeps PyTorch's initialisation and draws a mask again whose initial sparsity
    exceeds `mask_initial_sparsity`, because a mask that is 0 everywhere passes no gradient. With
    `mask_gradient=straight-through` [ours] zeros do pass one; `exact` is the paper's.
    `mask_learning_rate` is a number, `policy` (the policy's rate [paper]), or `auto` [ours]: the
    rate at which a mask can change by its own size a few times over the run, in every model.
    """

    search_space: ClassVar[SearchSpace] = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "l1_reward": L1_WEIGHT,
        "l1_kl": L1_WEIGHT,
        "mask_learning_rate": MASK_LEARNING_RATE,
    }

    l1_reward: float = hyper_parameter(
        0.0, "λ_u, L1 weight of the reward mask.", source="the paper has 1e-3 on HH", low=0
    )
    l1_kl: float = hyper_parameter(
        0.0, "λ_d, L1 weight of the KL mask.", source="the paper has 1e-3 on HH", low=0
    )
    l1_limit: Literal["none", "preference"] = hyper_parameter(
        "none",
        "Whether the norm may take back all that the preference adds to a mask, or half of it.",
        source="none: [paper], preference: [ours]",
        choices=("none", "preference"),
    )
    mask_weight_decay: float = hyper_parameter(
        0.01, "Weight decay of the masks' weights.", source="[paper]", low=0
    )
    mask_learning_rate: float | Literal["auto", "policy"] = hyper_parameter(
        "auto",
        "Peak rate of the masks: by their size and the number of steps, the policy's, or a number.",
        source="auto: [ours], policy: [paper]",
    )
    mask_dropout: float = hyper_parameter(
        0.01, "Dropout on the masks, in training only.", source="[code]", low=0, high=0.99
    )
    mask_layers: Literal["all", "last"] = hyper_parameter(
        "all", "Layers that a mask reads.", source="[paper]", choices=("all", "last")
    )
    mask_feed_forward: Literal[1, 2] = hyper_parameter(
        1, "Feed-forward layers of a mask.", source="[paper]", choices=(1, 2)
    )
    mask_kind: Literal["learned", "binary", "random", "given"] = hyper_parameter(
        "learned",
        "Learned values, learned zeros and ones, random values, or values from a file.",
        source="[paper]; given: [ours]",
        choices=("learned", "binary", "random", "given"),
    )
    mask_init: Literal["scaled", "paper"] = hyper_parameter(
        "scaled",
        "Initialisation of the masks.",
        source="scaled: [ours], paper: [code]",
        choices=("scaled", "paper"),
    )
    mask_initial_sparsity: float | None = hyper_parameter(
        None,
        "Percentage of zeros that a mask starts with (10), or may start with at most (90).",
        source="[ours]",
    )
    mask_gradient: Literal["straight-through", "exact"] = hyper_parameter(
        "straight-through",
        "Whether the rectifiers pass a gradient where they are 0.",
        source="straight-through: [ours], exact: [paper]",
        choices=("straight-through", "exact"),
    )

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        if self.mask_learning_rate not in ("auto", "policy"):
            if isinstance(self.mask_learning_rate, str):
                raise UserError(
                    "mask_learning_rate must be auto, policy or a number, not "
                    f"{self.mask_learning_rate!r}."
                )
            require_range("mask_learning_rate", self.mask_learning_rate)
        if self.mask_initial_sparsity is not None:
            require_range("mask_initial_sparsity", self.mask_initial_sparsity, high=100)
        if self.mask_kind == "given" and (self.l1_reward or self.l1_kl):
            raise UserError(
                "l1_reward and l1_kl have no effect on given masks; set them to 0, or leave out "
                "mask_kind=given."
            )

    @property
    def initial_sparsity(self) -> float:
        """`mask_initial_sparsity`, or its default with this `mask_init`, in percent."""
        if self.mask_initial_sparsity is not None:
            return self.mask_initial_sparsity
        return INITIAL_SPARSITY[self.mask_init]

    def norm_terms(
        self, reward_pull: Float[Tensor, " B"], kl_pull: Float[Tensor, " B"]
    ) -> tuple[NormTerm, ...]:
        """Return (λ, pull) of each learned mask, in the order of `masks`.

        Args:
            reward_pull: see `penalty`.
            kl_pull: likewise.
        """
        return ()

    def penalty(
        self,
        chosen: TokenStats,
        rejected: TokenStats,
        reward_pull: Float[Tensor, " B"],
        kl_pull: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"] | None:
        """Return Σ λ(‖m(y_w)‖₁ + ‖m(y_l)‖₁) over the masks, limited as `l1_limit` says, (B,)."""
        terms = self.norm_terms(reward_pull, kl_pull)
        if not any(weight for weight, _ in terms):
            return None
        # A common mask is both of `masks`, and has one term.
        masks = zip(self.masks(chosen), self.masks(rejected), strict=True)
        norms = [
            self.limited(weight * (l1_norm(ours, chosen) + l1_norm(theirs, rejected)), pull)
            for (weight, pull), (ours, theirs) in zip(terms, masks, strict=False)
        ]
        return torch.stack(norms).sum(0)

    def limited(self, norm: Float[Tensor, " B"], pull: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return a mask's weighted norm, lowered where `l1_limit` asks for it, (B,).

        λ‖m‖₁ · min(1, max(0, pull / (2 λ‖m‖₁))), with a constant factor for the gradient. If all
        values of a mask grow by a small share, λ‖m‖₁ grows by this share of itself, and the rest of
        the loss falls by this share of the pull; so the loss never gains from shrinking a mask as a
        whole. Without a limit it does at first, when the log-ratios are 0 (docs/masks.md) [ours].

        Args:
            norm: λ‖m‖₁ of both responses of each pair.
            pull: see `penalty`.
        """
        if self.l1_limit == "none":
            return norm
        smallest = torch.finfo(norm.dtype).tiny
        share = (L1_SHARE * pull / norm.detach().clamp(min=smallest)).clamp(0.0, 1.0)
        return share * norm


def l1_norm(mask: Float[Tensor, "B T"], stats: TokenStats) -> Float[Tensor, " B"]:
    """Return ‖m‖₁ over the response tokens, not averaged by length, (B,)."""
    return response_sum(mask.abs(), stats)


@dataclass(frozen=True)
class SparsePOCommon(LearnedMaskMethod):
    """One learned mask m on both terms.

    L = −log σ(β[(Σ m r_w − Σ m r_l) − (Σ m k_l − Σ m k_w)])
        + (λ_u + λ_d)/2 · (‖m(y_w)‖₁ + ‖m(y_l)‖₁). Source: arXiv 2410.05102.
    """

    name: ClassVar[str] = "sparsepo-common"
    title: ClassVar[str] = "SparsePO (common)"
    source: ClassVar[str] = "arXiv 2410.05102, common mask"
    needs: ClassVar[Needs] = Needs(kl=True, mask="learned-common")

    def masks(self, stats: TokenStats) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return reward_mask for both terms."""
        mask = required(stats.reward_mask, "reward_mask")
        return mask, mask

    def norm_terms(
        self, reward_pull: Float[Tensor, " B"], kl_pull: Float[Tensor, " B"]
    ) -> tuple[NormTerm, ...]:
        """Return the weight (λ_u + λ_d)/2 of the one mask, and the pull on it."""
        return (((self.l1_reward + self.l1_kl) / 2, reward_pull + kl_pull),)


@dataclass(frozen=True)
class SparsePOIndependent(LearnedMaskMethod):
    """Two learned masks, m_u on the log-ratios and m_d on the token KL.

    L = −log σ(β[(Σ m_u r_w − Σ m_u r_l) − (Σ m_d k_l − Σ m_d k_w)])
        + λ_u(‖m_u(y_w)‖₁ + ‖m_u(y_l)‖₁) + λ_d(‖m_d(y_w)‖₁ + ‖m_d(y_l)‖₁).
    Source: arXiv 2410.05102.
    """

    name: ClassVar[str] = "sparsepo-independent"
    title: ClassVar[str] = "SparsePO (independent)"
    source: ClassVar[str] = "arXiv 2410.05102, independent masks"
    needs: ClassVar[Needs] = Needs(kl=True, mask="learned-independent")

    def masks(self, stats: TokenStats) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Return (reward_mask, kl_mask)."""
        return (
            required(stats.reward_mask, "reward_mask"),
            required(stats.kl_mask, "kl_mask"),
        )

    def norm_terms(
        self, reward_pull: Float[Tensor, " B"], kl_pull: Float[Tensor, " B"]
    ) -> tuple[NormTerm, ...]:
        """Return λ_u and λ_d with the pull on m_u and on m_d."""
        return (self.l1_reward, reward_pull), (self.l1_kl, kl_pull)
