"""The random mask: uniform values, the baseline of Table 5."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RandomMask(nn.Module):
    """m_t is drawn uniformly from [0, 1) for each token at every call. Source: arXiv 2410.05102."""

    def forward(self, hidden_states: list[Float[Tensor, "... d"]]) -> Float[Tensor, "..."]:
        """Return a new mask with the shape of the hidden states without their last dimension."""
        last = hidden_states[-1]
        dtype = torch.promote_types(last.dtype, torch.float32)
        return torch.rand(last.shape[:-1], dtype=dtype, device=last.device)
