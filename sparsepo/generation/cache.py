"""A key-value cache with room for the tokens to come.

transformers' own cache copies all keys and values for each new token: with 64 rows of 400 tokens
of a model of 30 layers and 3 key-value heads of 64 features, 2.4 GB per step are written.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class RoomyLayer(DynamicLayer):
    """The keys and values of one layer, in memory that is allocated for the whole response.

    `keys` and `values` are views of the part that is filled.
    """

    def __init__(self, room: int) -> None:
        """Reserve `room` tokens beside those of the first call."""
        super().__init__()
        self._room = room
        self._whole: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        before = self.get_seq_length()
        length = before + key_states.shape[-2]
        if self._whole is None or self._whole[0].shape[-2] < length:
            self._whole = (
                _with_room(self.keys, key_states, length + self._room),
                _with_room(self.values, value_states, length + self._room),
            )
        for whole, new in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, before:length] = new
        self.keys, self.values = (whole[:, :, :length] for whole in self._whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, or repeat them."""
        length = self.get_seq_length()
        if length > 0 and self._whole is not None:
            keys, values = (_rows(whole, indices, length) for whole in self._whole)
            self._whole = keys, values
            self.keys, self.values = keys[:, :, :length], values[:, :, :length]


def roomy_cache(config: Any, prompt: int, room: int) -> DynamicCache:
    """Return an empty cache whose layers are `RoomyLayer`s where the model allows it.

    Args:
        config: the model's configuration.
        prompt: tokens of the prompt.
        room: tokens that will follow it.
    """
    cache = DynamicCache(config=config)
    cache.layers = [_roomy(layer, prompt + room, room) for layer in cache.layers]
    return cache


def _roomy(layer: Any, longest: int, room: int) -> Any:
    """Return the layer that takes the place of one of transformers' own; it may be the same one."""
    whole = type(layer) is DynamicLayer
    # A window that the text does not reach drops nothing.
    unreached = type(layer) is DynamicSlidingWindowLayer and longest < layer.sliding_window
    if not whole and not unreached:
        return layer
    found = RoomyLayer(room)
    # The masks of layers with and without a window are made by this.
    found.is_sliding = layer.is_sliding
    return found


def _with_room(old: Tensor, new: Tensor, length: int) -> Tensor:
    """Return memory for `length` tokens that begins with the old ones."""
    whole = new.new_empty(*new.shape[:2], length, new.shape[-1])
    if old.numel():
        whole[:, :, : old.shape[-2]] = old
    return whole


def _rows(whole: Tensor, indices: Tensor, length: int) -> Tensor:
    """Return memory of the same size for some of the rows, of which the filled part is copied."""
    picked = whole.new_empty(len(indices), *whole.shape[1:])
    picked[:, :, :length] = whole[:, :, :length].index_select(0, indices)
    return picked
