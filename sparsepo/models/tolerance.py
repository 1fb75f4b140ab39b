"""How much two computations of a model's log-probabilities may differ by rounding."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from sparsepo.models.adapters import is_quantized

TOLERANCE = {"float32": 1e-3, "tf32": 0.05, "half": 0.5, "8-bit": 1.0}
"""Largest difference of a token's log-probability, in nats, by the precision of matrix products.

float32 (and float64, because some models compute a norm or an attention in float32 anyway): the
order of summation depends on the shapes, which changes log-probabilities of size 10 by 1e-5 to
1e-4. TF32 keeps 10 bits of each factor, bfloat16 8 and float16 11: a bfloat16 logit of 20 is
rounded to the nearest sixteenth. 4-bit weights are expanded to the dtype of the product; 8-bit
products also round the activations, in units that depend on the rest of the batch. The start check
lowers the tolerance if the effect of padding shows that the model rounds less on these tokens.
"""


def tolerance_of(model: PreTrainedModel, accelerator: Accelerator | None = None) -> float:
    """Return the tolerance for a model's dtype, or for the mixed precision that it runs in."""
    if is_quantized(model) and getattr(model, "is_loaded_in_8bit", False):
        return TOLERANCE["8-bit"]
    half = accelerator is not None and accelerator.mixed_precision in ("fp16", "bf16")
    if half or model.dtype not in (torch.float32, torch.float64):
        return TOLERANCE["half"]
    if model.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        return TOLERANCE["tf32"]
    return TOLERANCE["float32"]
