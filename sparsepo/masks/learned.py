"""The learned mask: a small network on the reference model's hidden states (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEED_FORWARD_SIZE = 200
"""Hidden size of the two-layer variant [code]."""

FEED_FORWARD_DROPOUT = 0.1
"""Dropout between its two layers [code]."""


class _StraightThrough(torch.autograd.Function):
    """A function forward, the identity backward, where the function's own gradient is 0."""

    @staticmethod
    def forward(ctx: object, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(values)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Score(nn.Module):
    """One or two linear layers from a hidden state to one number."""

    def __init__(self, hidden_size: int, feed_forward: int) -> None:
        super().__init__()
        if feed_forward == 1:
            self.w = nn.Linear(hidden_size, 1)
        else:
            self.ff1 = nn.Linear(hidden_size, FEED_FORWARD_SIZE)
            self.ff2 = nn.Linear(FEED_FORWARD_SIZE, 1)
        self.feed_forward = feed_forward

    @property
    def output(self) -> nn.Linear:
        """The layer whose output is the score."""
        return self.w if self.feed_forward == 1 else self.ff2

    @property
    def input(self) -> nn.Linear:
        """The layer that reads the hidden state."""
        return self.w if self.feed_forward == 1 else self.ff1

    def score(self, hidden: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        if self.feed_forward == 1:
            scores: Tensor = self.w(hidden)
        else:
            between = nn.functional.dropout(
                self.ff1(hidden), FEED_FORWARD_DROPOUT, training=self.training
            )
            scores = self.ff2(between)
        return scores.squeeze(-1)


class LearnedMask(_Score):
    """m = dropout(ReLU(Σ_l o_l m_l)), m_l = dropout(ReLU(w_l·LN(h_l) + b_l)).

    With layers="last": m = dropout(ReLU(w·h_L + b)), without layer norm and mixing of layers. With
    binary=True the sign of the final ReLU is returned, with a straight-through gradient [ours].
    With gradient="straight-through" [ours] every ReLU passes its gradient on where it is 0, too, so
    that a token, or a mask, that is 0 can come back. Parameters use PyTorch's default
    initialisation [code]; `scale_mask` makes it one that is alive.

    Args:
        num_layers: number of hidden states, one per block.
        hidden_size: their width d.
        layers: "all" combines all layers, "last" reads only the last one.
        feed_forward: linear layers per mask, 1 or 2.
        binary: whether the mask is 0 or 1.
        eps: epsilon of the layer norm; pass the epsilon of the model's norms.
        dropout: dropout on each mask, only in training.
        gradient: of the ReLUs, "exact" or "straight-through".

    Raises:
        ValueError: an argument is out of range.

    Source: arXiv 2410.05102.
    """

    def __init__(
        self,
        num_layers: int,
        hidden_size: int,
        layers: Literal["all", "last"] = "all",
        feed_forward: Literal[1, 2] = 1,
        binary: bool = False,
        eps: float = 1e-5,
        dropout: float = 0.01,
        gradient: Literal["exact", "straight-through"] = "exact",
    ) -> None:
        if layers not in ("all", "last") or feed_forward not in (1, 2):
            raise ValueError(
                f"layers must be all or last and feed_forward 1 or 2, not {layers}, {feed_forward}."
            )
        if gradient not in ("exact", "straight-through"):
            raise ValueError(f"gradient must be exact or straight-through, not {gradient}.")
        # A mask of only the last layer is itself a single score, so its parameters have no prefix.
        if layers == "last":
            super().__init__(hidden_size, feed_forward)
        else:
            nn.Module.__init__(self)
            self.layer_norm = nn.LayerNorm(hidden_size, eps=eps)
            self.w_per_layer = nn.ModuleList(
                _Score(hidden_size, feed_forward) for _ in range(num_layers)
            )
            self.mixer = nn.Linear(num_layers, 1, bias=False)
        self.num_layers = num_layers
        self.layers = layers
        self.binary = binary
        self.dropout = dropout
        self.gradient = gradient

    def forward(self, hidden_states: Sequence[Float[Tensor, "... d"]]) -> Float[Tensor, "..."]:
        """Return the mask, one value ≥ 0 per token.

        Args:
            hidden_states: one tensor per block, (B, T, d) or (N, d); the last after the final norm.

        Returns:
            (B, T) or (N,).

        Raises:
            ValueError: the number of hidden states is not num_layers.
        """
        mask = self._rectify(self.merge(self.scores(hidden_states)))
        if not self.binary:
            return mask
        binary: Tensor = _StraightThrough.apply(mask, torch.sign)
        return binary

    @property
    def networks(self) -> list[_Score]:
        """The networks that score a layer's state, in the order of the layers that are read."""
        if self.layers == "last":
            return [self]
        return [network for network in self.w_per_layer if isinstance(network, _Score)]

    def scores(
        self, hidden_states: Sequence[Float[Tensor, "... d"]]
    ) -> Iterator[Float[Tensor, "..."]]:
        """Yield w_l·LN(h_l) + b_l of each layer that is read.

        Args:
            hidden_states: as in `forward`.

        Raises:
            ValueError: the number of hidden states is not num_layers.
        """
        for network, state in self.inputs(hidden_states):
            yield network.score(state)

    def inputs(
        self, hidden_states: Sequence[Float[Tensor, "... d"]]
    ) -> Iterator[tuple[_Score, Float[Tensor, "... d"]]]:
        """Yield the network and the normalised state of each layer that is read.

        Args:
            hidden_states: as in `forward`.

        Raises:
            ValueError: the number of hidden states is not num_layers.
        """
        if len(hidden_states) != self.num_layers:
            raise ValueError(
                f"There are {len(hidden_states)} hidden states for {self.num_layers} layers; pass "
                "one for each."
            )
        if self.layers == "last":
            yield self, hidden_states[-1]
            return
        for network, hidden in zip(self.networks, hidden_states, strict=True):
            yield network, self.layer_norm(hidden)

    def merge(self, scores: Iterable[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
        """Return the value whose rectifier is the mask, Σ_l o_l m_l; of one layer, its score.

        Args:
            scores: one tensor per layer that is read.
        """
        if self.layers == "last":
            (score,) = scores
            return score
        per_layer = [self._rectify(score) for score in scores]
        merged: Tensor = self.mixer(torch.stack(per_layer, -1)).squeeze(-1)
        return merged

    def _rectify(self, scores: Tensor) -> Tensor:
        exact = self.gradient == "exact"
        rectified = scores.relu() if exact else _StraightThrough.apply(scores, torch.relu)
        return nn.functional.dropout(rectified, self.dropout, training=self.training)
