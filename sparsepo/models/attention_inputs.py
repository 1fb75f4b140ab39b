"""Observe queries, keys and values as an attention kernel receives them, after rotary embedding.

Rotary embedding happens inside an attention module's forward, where no module hook can observe it.
Most transformers models call their kernel through the attention interface. Others multiply the
matrices themselves; their two matrix products are observed instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface

AttentionSink = Callable[[nn.Module, Tensor, Tensor, Tensor], None]
"""Called with an attention module and its queries, keys and values, (rows, heads, length,
features); keys and values may have fewer heads."""

ProductSink = Callable[[Tensor, Tensor, Tensor | None], None]
"""Called with both factors of a matrix product, or queries, keys and values of fused attention."""


def first_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the hidden states among a module's arguments: the first floating-point tensor."""
    given = [kwargs["hidden_states"]] if "hidden_states" in kwargs else []
    for value in (*given, *args, *kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    return None


@contextlib.contextmanager
def interface_calls(sink: AttentionSink) -> Iterator[None]:
    """Pass the inputs of each kernel called through transformers' attention interface to `sink`."""
    find = AttentionInterface.get_interface

    def get_interface(interface: AttentionInterface, name: str, default: Any) -> Any:
        attend = find(interface, name, default)

        def show_and_attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
        ) -> Any:
            sink(module, query, key, value)
            return attend(module, query, key, value, *args, **kwargs)

        return show_and_attend

    # Patched, because transformers builds no causal mask for a kernel registered under a new name.
    AttentionInterface.get_interface = get_interface  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        AttentionInterface.get_interface = find  # type: ignore[method-assign]


def _first_two(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return (*args, *kwargs.values())[:2]


def _batches(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    # baddbmm adds the product of the second and third tensor to the first.
    return kwargs.get("batch1", args[1:2]), kwargs.get("batch2", args[2:3])


_PRODUCTS: dict[Any, Callable[..., tuple[Any, ...]]] = {
    torch.matmul: _first_two,
    torch.Tensor.matmul: _first_two,
    torch.Tensor.__matmul__: _first_two,
    torch.bmm: _first_two,
    torch.Tensor.bmm: _first_two,
    torch.baddbmm: _batches,
    torch.Tensor.baddbmm: _batches,
}


class MatrixProducts(TorchFunctionMode):
    """While active, passes the factors of each batched matrix product to a function."""

    def __init__(self, sink: ProductSink) -> None:
        super().__init__()
        self._sink = sink

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function; if it is a matrix product, pass its factors on first."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self._sink(*(*args, kwargs.get("query"), kwargs.get("key"), kwargs.get("value"))[:3])
        elif func in _PRODUCTS:
            left, right = (
                factor[0] if isinstance(factor, tuple) else factor
                for factor in _PRODUCTS[func](*args, **kwargs)
            )
            self._sink(left, right, None)
        return func(*args, **kwargs)


Product = tuple[Tensor, Tensor, Tensor | None]


def of_products(products: list[Product], rows: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return queries, keys and values, (rows, heads, length, features), given matrix products.

    Args:
        products: the products of one attention call: queries by transposed keys, then weights by
            values; or a single fused attention.
        rows: rows of the batch; heads may have been folded into them.

    Returns:
        None if the products do not have this form.
    """
    if len(products) == 1 and products[0][2] is not None:
        query, key, value = products[0]
    elif len(products) == 2 and products[0][2] is None is products[1][2]:
        (query, transposed, _), (weights, value, _) = products
        length = query.shape[-2]
        if min(transposed.ndim, value.ndim) < 3 or weights.shape[-2:] != (
            length,
            transposed.shape[-1],
        ):
            return None
        key = transposed.transpose(-1, -2)
    else:
        return None
    assert value is not None
    if query.ndim < 3 or not query.shape[-2] == key.shape[-2] == value.shape[-2]:
        return None
    query, key, value = (
        tensor if tensor.ndim == 4 else tensor.unflatten(0, (rows, -1))
        for tensor in (query, key, value)
    )
    return query, key, value


@contextlib.contextmanager
def product_calls(modules: list[nn.Module], sink: AttentionSink) -> Iterator[None]:
    """Pass queries, keys and values of attentions that multiply matrices themselves to `sink`.

    Args:
        modules: the attention modules; each multiplies as `of_products` expects.
        sink: as for `interface_calls`.
    """
    current: tuple[nn.Module, int, list[Product]] | None = None

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal current
        states = first_states(args, kwargs)
        assert states is not None
        current = module, states.shape[0], []

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        nonlocal current
        current = None

    def multiply(left: Tensor, right: Tensor, value: Tensor | None) -> None:
        if current is None:
            return
        module, rows, products = current
        products.append((left, right, value))
        found = of_products(products, rows)
        if found is not None:
            sink(module, *found)

    handles: list[Any] = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
        with MatrixProducts(multiply):
            yield
    finally:
        for handle in handles:
            handle.remove()
