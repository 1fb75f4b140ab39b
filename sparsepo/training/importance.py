"""The influence of a response's tokens on its last prediction, by gradients of their embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import PROMPT, to_responses
from sparsepo.models.plain import run_whole
from sparsepo.reference.online import unwrap_peft
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.types import PackedBatch


def token_importance(
    module: PolicyWithMasks, batch: PackedBatch
) -> Float[Tensor, "responses pairs tokens"]:
    """Return ‖∂ max_v logit_v at a response's last token / ∂ embedding of y_t‖₁, without gradient.

    One forward and one backward pass for the whole batch: the last prediction of a response depends
    on no other response. A transform of the logits is left out: it multiplies all values of a
    response by the same number.

    Args:
        module: the policy.
        batch: pairs on its device, laid out for its `computation`.
    """
    model = unwrap_peft(module.policy)
    own = _token_cells(batch)
    lengths = batch.response_mask.sum(-1).flatten()
    last = own[lengths.cumsum(0)[lengths > 0] - 1]
    embedded: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        # Frozen embeddings under adapters require no gradient of their own.
        output = output if output.requires_grad else output.detach().requires_grad_()
        embedded.append(output)
        return output

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = _logits(module, batch, last)
            gradients = torch.autograd.grad(logits.max(-1).values.sum(), embedded)
    finally:
        handle.remove()
    width = batch.input_ids.shape[1]
    # If every row has a forward pass of its own, rows are as long as their sequence.
    norms = [nn.functional.pad(g.abs().sum(-1), (0, width - g.shape[1])) for g in gradients]
    values = torch.cat(norms).flatten()[own]
    return to_responses(values.to(torch.promote_types(values.dtype, torch.float32)), batch)


def _token_cells(batch: PackedBatch) -> Int[Tensor, " N"]:
    """Return the index into rows × length of each response token, in the batch's order."""
    part, pair = batch.part.flatten(), batch.pair_index.flatten()
    cells = (part > PROMPT).nonzero()[:, 0]
    order = (part[cells] * len(batch.pair_ids) + pair[cells]).argsort(stable=True)
    return cells[order]


def _logits(
    module: PolicyWithMasks, batch: PackedBatch, cells: Int[Tensor, " R"]
) -> Float[Tensor, "R V"]:
    """Return the policy's logits, before any transform if rows are packed, at some positions."""
    if module.computation != "packed":
        whole: Tensor = run_whole(module.policy, batch, module.computation).logits
        return whole.flatten(0, 1)[cells].float()
    model = unwrap_peft(module.policy)
    there = replace(batch, predictor_index=cells)
    hidden = module.output_head.final_states(model, there, attention_mask_for(model, batch))
    head, bias = module.output_head.weights(model)
    return nn.functional.linear(hidden, head, bias).float()
