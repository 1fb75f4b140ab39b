"""Switch a model's implementation of attention or experts temporarily."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from transformers import PreTrainedModel


@contextlib.contextmanager
def use_implementation(
    model: PreTrainedModel, kind: str, choose: Callable[[str | None], str | None]
) -> Iterator[None]:
    """Use another implementation in every part of a model inside the context.

    Args:
        model: a transformers model, whose parts may have separate configurations.
        kind: "attn" or "experts".
        choose: maps the name of the current implementation to the one to use.
    """
    # The attribute behind transformers' property, whose setter would change all parts at once.
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
