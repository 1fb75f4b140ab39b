"""The critic: a linear layer on the policy's final states, which says what reward is to come.

It is no model of its own, as in OpenAI's first RLHF: its inputs are computed anyway, packed or not,
so it costs neither memory nor a further pass, and works with adapters and quantized weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.models.capture import output_head

CRITIC_FILE = "critic.safetensors"


class ValueHead(nn.Module):
    """V = w·h + b, h the state from which the policy predicts a token; 0 before training.

    Zeros are OpenAI's start, too, and draw no random numbers. Weights are float32 whatever the
    policy's are.

    Args:
        hidden_size: width of h.
        trains_policy: whether the gradient of V goes on to the policy.
    """

    def __init__(self, hidden_size: int, trains_policy: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(1))
        self.trains_policy = trains_policy

    def forward(self, hidden: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Return the values of N states."""
        if not self.trains_policy:
            hidden = hidden.detach()
        # Not a matrix product, which autocast would compute in half precision.
        return (hidden.to(self._dtype(hidden)) * self.weight).sum(-1) + self.bias

    def _dtype(self, hidden: Tensor) -> torch.dtype:
        return torch.promote_types(hidden.dtype, self.weight.dtype)


def make_critic(method: Method, policy: PreTrainedModel) -> ValueHead | None:
    """Return a new critic for a method that reads its values, None for any other.

    Args:
        method: `value_gradient="head"`, if it has this hyper-parameter, keeps the critic's gradient
            from the policy.
        policy: without adapters around it.
    """
    if not method.needs.values:
        return None
    weight, _ = output_head(policy)
    trains_policy = getattr(method, "value_gradient", "policy") == "policy"
    return ValueHead(weight.shape[1], trains_policy)


def save_critic(critic: ValueHead, directory: Path) -> None:
    """Write a critic into an existing folder."""
    save_file({k: v.contiguous() for k, v in critic.state_dict().items()}, directory / CRITIC_FILE)


def load_critic(critic: ValueHead, directory: Path) -> None:
    """Read what `save_critic` wrote.

    Raises:
        UserError: the file is missing or damaged, or belongs to a policy of another width.
    """
    file = directory / CRITIC_FILE
    if not file.is_file():
        raise UserError(
            f"The checkpoint {directory} contains no {CRITIC_FILE}; give a folder that a method "
            "with a critic saved."
        )
    try:
        critic.load_state_dict(load_file(file))
    except Exception as error:
        # A damaged file raises SafetensorError, another width RuntimeError.
        raise UserError(
            f"The critic in {file} is damaged or belongs to another model; remove this checkpoint "
            "to resume from the one before it."
        ) from error
