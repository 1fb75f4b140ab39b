"""The trained module: the policy together with its learned masks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, overload

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import to_responses
from sparsepo.errors import UserError
from sparsepo.fused import token_stats
from sparsepo.masks import LearnedMask, RandomMask, relative_step, scale_mask
from sparsepo.methods.base import Method, Needs
from sparsepo.methods.masked import uses_given_masks
from sparsepo.models.head import find_head
from sparsepo.models.layers import layers_of, norm_epsilon
from sparsepo.models.plain import (
    Computation,
    at_predictors,
    body_states,
    log_probs_of,
    of_next_token,
    run_whole,
)
from sparsepo.models.points import points_of
from sparsepo.reference.online import ReferenceStates, mask_settings, unwrap_peft
from sparsepo.training.as_model import ActsAsModel
from sparsepo.training.critic import ValueHead
from sparsepo.types import PackedBatch, TokenStats

MASKS_FILE = "masks.safetensors"
METHOD_FILE = "method.json"

MaskPair = tuple[Tensor | None, Tensor | None]


def make_masks(method: Method, reference: PreTrainedModel) -> nn.ModuleDict:
    """Return the mask networks of a method, newly initialised.

    Args:
        method: the method, with `needs.mask` and the masks' hyper-parameters.
        reference: the model whose states the masks read.

    Returns:
        "reward" (and "kl" if the masks are independent) → network; empty without learned masks, and
        for masks that are given.

    Raises:
        UserError: the method's masks cannot read the reference.
    """
    if uses_given_masks(method):
        return nn.ModuleDict()
    if method.needs.mask == "activation":
        points_of(reference, mask_settings(method)[0])
    kinds = {"learned-common": ["reward"], "learned-independent": ["reward", "kl"]}
    names = kinds.get(method.needs.mask, [])
    if not names:
        return nn.ModuleDict()
    settings: Any = method
    last_only = settings.mask_layers == "last"
    layers = layers_of(reference)
    num_layers = 1 if last_only else len(layers.blocks)

    def make() -> nn.Module:
        if settings.mask_kind == "random":
            return RandomMask()
        return LearnedMask(
            num_layers,
            layers.hidden_size,
            layers=settings.mask_layers,
            feed_forward=settings.mask_feed_forward,
            binary=settings.mask_kind == "binary",
            eps=norm_epsilon(reference),
            dropout=settings.mask_dropout,
            gradient=settings.mask_gradient,
        )

    # The masks stay float32 under a half-precision policy: their gradients are tiny.
    return nn.ModuleDict({name: make() for name in names})


def describe(method: Method) -> dict[str, Any]:
    """Return a method's name and hyper-parameters as JSON data."""
    return {"method": method.name, "hyper_parameters": asdict(method)}


def read_description(directory: Path) -> dict[str, Any] | None:
    """Return what `save_masks` wrote of the method that made a folder, or None if it holds none."""
    try:
        description: dict[str, Any] = json.loads((directory / METHOD_FILE).read_text())
    except (OSError, ValueError):
        return None
    return description


class PolicyWithMasks(ActsAsModel):
    """The policy, its masks and its critic as one module, for one optimizer and one wrapper."""

    def __init__(
        self,
        policy: PreTrainedModel,
        masks: nn.ModuleDict,
        computation: Computation = "packed",
        critic: ValueHead | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.masks = masks
        self.critic = critic
        self.computation: Computation = computation
        self.output_head = find_head(unwrap_peft(policy))

    def forward(
        self,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        needs: Needs,
        chunk_size: int | None = None,
    ) -> tuple[TokenStats, TokenStats | None]:
        """Return the statistics of the chosen and of the rejected responses.

        Args:
            batch: pairs on the policy's device, laid out for this module's `computation`.
            reference: the reference's states, None where nothing needs them.
            needs: what to compute.
            chunk_size: tokens per block of the fused operation, None for the device's own; the
                reference implementation has no blocks.

        Returns:
            Chosen and rejected statistics, (pairs, tokens) each; None where the batch holds no
            rejected responses.
        """
        if self.computation != "packed":
            return self._plainly(batch, reference, needs)
        model = unwrap_peft(self.policy)
        hidden = self.output_head.final_states(model, batch, attention_mask_for(model, batch))
        head, bias = self.output_head.weights(model)
        states = reference if reference is not None else ReferenceStates()
        squares: list[Tensor] | None = [] if needs.log_sum_sq_probs else None
        reverse_kl: list[Tensor] | None = [] if needs.reverse_kl else None
        further: dict[str, Tensor | None] = {}
        with without_autocast(hidden.device.type) as cast:
            fused = token_stats(
                cast(hidden),
                cast(head),
                cast(states.hidden),
                cast(states.head),
                batch.targets,
                chunk_size,
                policy_bias=cast(bias),
                ref_bias=cast(states.bias),
                need_kl=needs.kl,
                log_sum_sq_probs=squares,
                reverse_kl=reverse_kl,
                policy_transform=self.output_head.transform,
                ref_transform=states.transform,
            )
        if squares is not None:
            further["log_sum_sq_probs"] = squares[0]
        if reverse_kl:
            further["reverse_kl"] = reverse_kl[0]
        further |= self._of_states(hidden, needs)
        return self.statistics(batch, reference, *fused, further)

    def _plainly(
        self, batch: PackedBatch, reference: ReferenceStates | None, needs: Needs
    ) -> tuple[TokenStats, TokenStats | None]:
        model = unwrap_peft(self.policy)
        wanted = needs.hidden or needs.values
        with body_states(model) if wanted else contextlib.nullcontext() as states:
            log_probs = log_probs_of(run_whole(self.policy, batch, self.computation))
        ref = None if reference is None else reference.log_probs
        kl = None
        if needs.kl and ref is not None:
            kl = at_predictors((ref.exp() * (ref - log_probs)).sum(-1), batch)
        further: dict[str, Tensor | None] = {}
        if needs.reverse_kl and ref is not None:
            further["reverse_kl"] = at_predictors(
                (log_probs.exp() * (log_probs - ref)).sum(-1), batch
            )
        if needs.log_sum_sq_probs:
            squares = (2 * log_probs.detach()).logsumexp(-1)
            further["log_sum_sq_probs"] = at_predictors(squares, batch)
        if states is not None:
            hidden = self.output_head.after_body(model, states.at_predictors(batch))
            further |= self._of_states(hidden, needs)
        ref_logps = None if ref is None else of_next_token(ref, batch)
        logps = of_next_token(log_probs, batch)
        return self.statistics(batch, reference, logps, ref_logps, kl, further)

    def _of_states(
        self, hidden: Float[Tensor, "N d"], needs: Needs
    ) -> dict[str, Float[Tensor, " N *features"] | None]:
        """Return what is computed from the policy's final states."""
        found: dict[str, Tensor | None] = {}
        if needs.hidden:
            found["hidden"] = hidden.detach()
        if needs.values and self.critic is not None:
            found["values"] = self.critic(hidden)
        return found

    def statistics(
        self,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        policy_logps: Float[Tensor, " N"],
        ref_logps: Float[Tensor, " N"] | None,
        kl: Float[Tensor, " N"] | None,
        further: Mapping[str, Tensor | None] | None = None,
    ) -> tuple[TokenStats, TokenStats | None]:
        """Arrange per-token values as the statistics of both sides, with the masks.

        Args:
            batch: pairs on the policy's device.
            reference: the reference's states, None if nothing needs them; cached log-probabilities
                replace `ref_logps`.
            policy_logps: log π(y_t), in the batch's order of tokens.
            ref_logps: log π_ref(y_t).
            kl: KL(π_ref ‖ π).
            further: other fields of the statistics, in the same order of tokens.

        Returns:
            As `forward`.
        """
        reward_mask, kl_mask = self._masks(batch, reference)
        cached = None if reference is None else reference.logps
        sides = batch.response_mask.shape[0]
        fields = {
            "policy_logps": to_responses(policy_logps, batch),
            "ref_logps": _laid_out(ref_logps, batch) if cached is None else cached,
            "kl": _laid_out(kl, batch),
            "response_mask": batch.response_mask,
            "reward_mask": reward_mask,
            "kl_mask": kl_mask,
            **{name: _laid_out(value, batch) for name, value in (further or {}).items()},
        }
        stats = [
            TokenStats(**{name: None if v is None else v[side] for name, v in fields.items()})  # type: ignore[arg-type]
            for side in range(sides)
        ]
        return stats[0], stats[1] if sides == 2 else None

    def _masks(self, batch: PackedBatch, reference: ReferenceStates | None) -> MaskPair:
        if reference is None:
            return None, None
        if reference.given_masks is not None:
            return reference.given_masks
        if reference.activation_mask is not None:
            return reference.activation_mask, reference.activation_mask
        if not self.masks or reference.layers is None:
            return None, None
        layers = self._inputs_of_masks(reference.layers)
        with without_autocast(batch.input_ids.device.type):
            reward = to_responses(self.masks["reward"](layers), batch)
            kl = to_responses(self.masks["kl"](layers), batch) if "kl" in self.masks else reward
        return reward, kl

    def _inputs_of_masks(self, layers: list[Tensor]) -> list[Tensor]:
        # With a half-precision policy the masks stay in float32.
        dtype = next((weight.dtype for weight in self.masks.parameters()), torch.float32)
        return [layer.to(dtype) for layer in layers]

    @torch.no_grad()
    def masks_without_dropout(
        self, batch: PackedBatch, reference: ReferenceStates
    ) -> tuple[Float[Tensor, "responses pairs tokens"], Float[Tensor, "responses pairs tokens"]]:
        """Return the (reward, KL) masks without dropout, for measuring sparsity."""
        training = self.masks.training
        self.masks.eval()
        try:
            reward, kl = self._masks(batch, reference)
        finally:
            self.masks.train(training)
        assert reward is not None and kl is not None
        return reward, kl

    @torch.no_grad()
    def reinitialise_mask(
        self, name: str, batch: PackedBatch, reference: ReferenceStates, limit: float, draws: int
    ) -> bool:
        """Re-initialise a learned mask until it is not too sparse on a batch.

        Args:
            name: "reward" or "kl".
            batch: the batch on which sparsity is measured.
            reference: the reference's states for the batch.
            limit: largest sparsity, in percent of response tokens.
            draws: maximum number of initialisations, including the current one.

        Returns:
            Whether the mask is within the limit; random masks always are.
        """
        mask = self.masks[name]
        if not isinstance(mask, LearnedMask) or reference.layers is None:
            return True
        layers = self._inputs_of_masks(reference.layers)
        was_training = mask.training
        mask.eval()
        for draw in range(draws):
            if draw:
                for module in mask.modules():
                    if isinstance(module, nn.Linear):
                        module.reset_parameters()
            if 100.0 * float((mask(layers) == 0).float().mean()) <= limit:
                mask.train(was_training)
                return True
        return False

    def scale_masks(self, reference: ReferenceStates, sparsity: float) -> None:
        """Scale every new learned mask, `scale_mask`.

        Args:
            reference: the reference's states for some pairs.
            sparsity: initial sparsity on these pairs, in percent of response tokens.
        """
        if reference.layers is not None:
            layers = self._inputs_of_masks(reference.layers)
            for mask in self.learned_masks:
                scale_mask(mask, layers, sparsity)

    @property
    def learned_masks(self) -> list[LearnedMask]:
        """The masks that are trained."""
        return [mask for mask in self.masks.values() if isinstance(mask, LearnedMask)]

    def relative_step(self) -> float | None:
        """Return the learning rate that changes the masks by their own size in one step.

        The mean over the masks; None if none is trained.
        """
        steps = [relative_step(mask) for mask in self.learned_masks]
        return sum(steps) / len(steps) if steps else None

    def save_masks(
        self,
        directory: Path,
        method: Method,
        gathered: Mapping[str, Tensor] | None = None,
        reference: str | None = None,
    ) -> None:
        """Write the masks and the method's hyper-parameters next to the policy.

        Args:
            directory: an existing folder.
            method: written to method.json by name, with its hyper-parameters.
            gathered: this module's weights, if each process holds only part of them.
            reference: folder or hub id of the reference, recorded in method.json.
        """
        description = {**describe(method), "reference": reference}
        (directory / METHOD_FILE).write_text(json.dumps(description, indent=2) + "\n")
        own = self.masks.state_dict()
        if gathered is not None:
            own = {name: gathered[f"masks.{name}"] for name in own}
        state = {name: value.contiguous() for name, value in own.items()}
        if state:
            save_file(state, directory / MASKS_FILE)

    def load_masks(self, directory: Path) -> None:
        """Read the masks that `save_masks` wrote.

        Raises:
            UserError: the file is missing or belongs to another mask architecture.
        """
        if not self.masks.state_dict():
            return
        file = directory / MASKS_FILE
        if not file.is_file():
            raise UserError(
                f"The checkpoint {directory} contains no {MASKS_FILE}; give a folder that a masked "
                "method saved."
            )
        try:
            self.masks.load_state_dict(load_file(file))
        except RuntimeError as error:
            raise UserError(
                f"The masks in {file} belong to another mask architecture or base model; use the "
                "mask options that they were trained with."
            ) from error


class Cast(Protocol):
    """Casts a tensor; None stays None."""

    @overload
    def __call__(self, tensor: Tensor) -> Tensor: ...

    @overload
    def __call__(self, tensor: None) -> None: ...


@contextlib.contextmanager
def without_autocast(device_type: str) -> Iterator[Cast]:
    """Disable autocast inside; yield a function that casts tensors as autocast would.

    The backward pass runs without autocast, and the fused operation recomputes its logits there;
    they must be equal. The masks are computed in their own dtype.
    """
    enabled = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type) if enabled else None
    with torch.autocast(device_type, enabled=False):
        yield lambda tensor: tensor if tensor is None or dtype is None else tensor.to(dtype)


def _laid_out(values: Tensor | None, batch: PackedBatch) -> Tensor | None:
    return None if values is None else to_responses(values, batch)
