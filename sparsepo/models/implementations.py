"""Other implementations of attention or experts, for as long as a model is watched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from transformers import PreTrainedModel


@contextlib.contextmanager
def use_implementation(
    model: PreTrainedModel, kind: str, choose: Callable[[str | None], str | None]
) -> Iterator[None]:
    """Let every part of a model use another implementation while it runs inside.

    Args:
        model: a transformers model; its parts have configurations of their own.
        kind: "attn" or "experts".
        choose: the implementation by name → the one to use.
    """
    # The attribute behind transformers' property, whose setter would change every part at once.
    attribute = f"_{kind}_implementation_internal"
    configs: dict[int, Any] = {
        id(module.config): module.config
        for module in model.modules()
        if hasattr(getattr(module, "config", None), attribute)
    }
    before = {key: getattr(config, attribute) for key, config in configs.items()}
    try:
        for key, config in configs.items():
            setattr(config, attribute, choose(before[key]))
        yield
    finally:
        for key, config in configs.items():
            setattr(config, attribute, before[key])
