"""Final states instead of logits, for models whose vocabulary is large.

The logits of 64 rows and 262,144 words are 64 MB that are written and read several times for each
token. With the projection taken out of the model's forward pass, `sparsepo.generation.blocks`
computes them in blocks that stay in a core's cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LARGE = 2**15
"""Words from which on logits are computed in blocks, and the cache has room. Below, nothing is
gained, because the logits of a batch fit into a cache. The threshold depends on the model alone,
because a sample must not depend on the batch that it is drawn in."""

_TOKENS = 8
"""Tokens on which states and projection are compared with the model's own logits."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Relative to the largest logit; other dtypes are narrower."""

_NARROW = 0.05


class Projection(NamedTuple):
    """The last step of a model whose logits are W h + b."""

    weight: Tensor
    """(vocabulary, width)."""
    bias: Tensor | None

    def logits(self, hidden: Tensor, columns: slice) -> Tensor:
        """Return the logits of some consecutive words, float32, in memory of their own."""
        bias = None if self.bias is None else self.bias[columns]
        return nn.functional.linear(hidden, self.weight[columns], bias).float()

    def chosen(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Return the logits of each row's own words.

        Args:
            hidden: (rows, width).
            words: (rows, n), int64.

        Returns:
            (rows, n), float32.
        """
        logits = (self.weight[words] @ hidden[:, :, None])[:, :, 0]
        return (logits if self.bias is None else logits + self.bias[words]).float()


@contextlib.contextmanager
def states_for_logits(model: Any) -> Iterator[None]:
    """Let a model return, as its logits, what its projection would be given."""
    projection = model.get_output_embeddings()
    projection.__dict__["forward"] = _unchanged
    try:
        yield
    finally:
        del projection.__dict__["forward"]


def has_many_words(model: Any) -> bool:
    """Return whether a model's vocabulary is large."""
    module = model.get_output_embeddings()
    weight = getattr(module, "weight", None)
    return weight is not None and len(weight) >= LARGE


def find_projection(model: Any, least: int | None = None) -> Projection | None:
    """Return the projection of a model with many words; None if it is computed as it stands.

    The model's own forward pass decides: on a few tokens, its logits must be those of the states
    and the projection. They are not if the model caps its logits or cuts its vocabulary, for
    example.

    Args:
        model: a causal language model in evaluation mode, with or without adapters.
        least: words from which on a model has many; None for LARGE.
    """
    module = model.get_output_embeddings()
    # A subclass may be quantized, an adapter, or loaded only when it runs.
    if type(module) is not nn.Linear or "forward" in module.__dict__:
        return None
    weight = module.weight
    # Weights that are spread over processes are whole only inside the forward pass.
    if type(weight) is not nn.Parameter or weight.ndim != 2:
        return None
    found = Projection(weight, module.bias)
    words, width = weight.shape
    if words < (LARGE if least is None else least) or words == width:
        return None
    ids = torch.arange(1, _TOKENS + 1, device=model.device)[None]
    with torch.no_grad():
        try:
            own: Tensor = model(input_ids=ids, use_cache=False).logits
            with states_for_logits(model):
                states: Tensor = model(input_ids=ids, use_cache=False).logits
        except Exception:
            # The model's usual forward pass reports what is wrong with it.
            return None
        if states.shape != (*own.shape[:-1], width) or own.shape[-1] != words:
            return None
        ours = found.logits(states[0], slice(None))
        largest = own[0].float().abs().amax()
        allowed = _TOLERANCE.get(own.dtype, _NARROW) * largest
        same = bool((ours - own[0].float()).abs().amax() <= allowed)
    return found if same else None


def _unchanged(states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return states
