"""sparsepo: preference optimization of language models with learned sparse token masks.

What needs only torch is imported at once; the trainer, which needs transformers, when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsepo import masks
from sparsepo.errors import UserError
from sparsepo.fused import token_stats
from sparsepo.methods.base import Method, Needs
from sparsepo.registry import available_methods, get_method, load_plugin, register_method
from sparsepo.types import LossOutput, PreferencePair, TokenStats

if TYPE_CHECKING:
    from sparsepo.data.pairs import read_pairs
    from sparsepo.training.trainer import PairScore, POConfig, POTrainer

__version__ = "0.1.0"

__all__ = [
    "LossOutput",
    "Method",
    "Needs",
    "POConfig",
    "POTrainer",
    "PairScore",
    "PreferencePair",
    "TokenStats",
    "UserError",
    "available_methods",
    "get_method",
    "load_plugin",
    "masks",
    "read_pairs",
    "register_method",
    "token_stats",
]


def __getattr__(name: str) -> Any:
    """Import the trainer on first use, so that a command that only looks up names stays quick."""
    if name in {"POConfig", "POTrainer", "PairScore"}:
        from sparsepo.training import trainer

        return getattr(trainer, name)
    if name == "read_pairs":
        from sparsepo.data.pairs import read_pairs

        return read_pairs
    raise AttributeError(f"module 'sparsepo' has no attribute '{name}'")
