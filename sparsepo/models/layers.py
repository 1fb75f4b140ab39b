"""Find a model's blocks and final norm, which learned masks read, by the order of their calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from sparsepo.errors import UserError
from sparsepo.models.probe import Call, Probe, hidden_states, is_norm, probe

_EPSILONS = ("eps", "variance_epsilon", "epsilon", "norm_eps")


@dataclass(frozen=True)
class Layers:
    """The modules whose outputs are a model's hidden states, by name."""

    blocks: tuple[str, ...]
    final_norm: str | None
    """The norm after the last block; None if the last block's output is the last state."""
    hidden_size: int

    @property
    def last(self) -> str:
        """The module whose output is the last layer's state."""
        return self.final_norm or self.blocks[-1]


_FOUND: WeakKeyDictionary[PreTrainedModel, Layers] = WeakKeyDictionary()


def layers_of(model: PreTrainedModel) -> Layers:
    """Return a model's layers; found once per model by running it on a few tokens.

    Args:
        model: a transformers model, without a PEFT wrapper; it may contain adapters.

    Raises:
        UserError: the layers cannot be found.
    """
    found = _FOUND.get(model)
    return find_layers(model, probe(model)) if found is None else found


def find_layers(model: PreTrainedModel, seen: Probe) -> Layers:
    """Return a model's layers, given the record of a run.

    The blocks are a list of modules that are called in sequence, once each, and return hidden
    states; the last one returns the model's last state, possibly before a norm. A list whose length
    is the configuration's number of layers is preferred.

    Args:
        model: the model.
        seen: the record of a run.

    Raises:
        UserError: there is no such list, or its blocks have different widths.
    """
    config: Any = model.config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    # The sort is stable: outer lists stay before the lists inside them.
    for modules in sorted(lists, key=lambda modules: len(modules) != count):
        calls = _in_a_row(seen, modules)
        if not calls:
            continue
        norm = _norm_after(seen, calls[-1])
        if norm is None and not _same(calls[-1].output, seen.last_hidden):
            continue
        widths = {call.output.shape[-1] for call in calls if call.output is not None}
        if len(widths) > 1:
            raise UserError(
                f"The blocks of this {model.config.model_type} model have different widths, which "
                "learned masks do not support; use a method without them, such as dpo or tdpo1."
            )
        names = tuple(call.name for call in calls)
        found = Layers(names, None if norm is None else norm.name, widths.pop())
        _FOUND[model] = found
        return found
    raise UserError(
        f"The blocks of this {model.config.model_type} model cannot be found: no list of modules "
        "produces the model's last hidden state; use a method without masks, such as dpo or tdpo1."
    )


def _in_a_row(seen: Probe, modules: nn.ModuleList) -> list[Call]:
    """Return the calls of a list's modules if they run in sequence, as blocks do."""
    calls: list[Call] = []
    for module in modules:
        own = seen.of(module)
        if len(own) != 1 or hidden_states(own[0]) is None:
            return []
        if calls and own[0].start < calls[-1].end:
            return []
        calls += own
    return calls


def _norm_after(seen: Probe, last: Call) -> Call | None:
    for call in seen.calls:
        if call.start > last.end and is_norm(call.module) and _same(call.given, last.output):
            return call
    return None


def _same(left: torch.Tensor | None, right: torch.Tensor | None) -> bool:
    if left is None or right is None or left.shape != right.shape:
        return False
    return torch.equal(left, right)


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """Return the model's blocks in order."""
    return [model.get_submodule(name) for name in layers_of(model).blocks]


def norm_epsilon(model: PreTrainedModel) -> float:
    """Return the epsilon of the model's norms, which learned masks use too (arXiv 2410.05102).

    It is that of the final norm or, if there is none, of the first norm in the last block.
    """
    last = model.get_submodule(layers_of(model).last)
    for module in last.modules():
        if is_norm(module):
            for name in _EPSILONS:
                if isinstance(getattr(module, name, None), float):
                    return float(getattr(module, name))
    return 1e-5
