"""sparsepo: preference optimization of language models with learned sparse token masks.

Names are imported when they are first used: reading a file does not import torch, and a loss does
not import transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsepo.errors import UserError
from sparsepo.lazy import names_on_demand

if TYPE_CHECKING:
    from sparsepo import masks
    from sparsepo.data.pairs import read_pairs
    from sparsepo.data.prompts import read_prompts
    from sparsepo.fused import token_stats
    from sparsepo.methods.base import Method, Needs
    from sparsepo.registry import available_methods, get_method, load_plugin, register_method
    from sparsepo.training.rollout_config import RolloutConfig
    from sparsepo.training.rollout_trainer import RolloutTrainer
    from sparsepo.training.trainer import PairScore, POConfig, POTrainer
    from sparsepo.types import LossOutput, PreferencePair, TokenStats

__version__ = "0.1.0"

__all__ = [
    "LossOutput",
    "Method",
    "Needs",
    "POConfig",
    "POTrainer",
    "PairScore",
    "PreferencePair",
    "RolloutConfig",
    "RolloutTrainer",
    "TokenStats",
    "UserError",
    "available_methods",
    "get_method",
    "load_plugin",
    "masks",
    "read_pairs",
    "read_prompts",
    "register_method",
    "token_stats",
]

_HOME = {
    "LossOutput": "sparsepo.types",
    "Method": "sparsepo.methods.base",
    "Needs": "sparsepo.methods.base",
    "POConfig": "sparsepo.training.trainer",
    "POTrainer": "sparsepo.training.trainer",
    "PairScore": "sparsepo.training.trainer",
    "PreferencePair": "sparsepo.types",
    "RolloutConfig": "sparsepo.training.rollout_config",
    "RolloutTrainer": "sparsepo.training.rollout_trainer",
    "TokenStats": "sparsepo.types",
    "available_methods": "sparsepo.registry",
    "get_method": "sparsepo.registry",
    "load_plugin": "sparsepo.registry",
    "read_pairs": "sparsepo.data.pairs",
    "read_prompts": "sparsepo.data.prompts",
    "register_method": "sparsepo.registry",
    "token_stats": "sparsepo.fused",
}
_MODULES = {"fused", "masks", "methods", "registry", "types"}

__getattr__, __dir__ = names_on_demand(__name__, _HOME, _MODULES)
