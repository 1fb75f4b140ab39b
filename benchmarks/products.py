"""The matrix products of a training step, recorded once and timed alone.

What a step takes beyond them is overhead: element-wise operations, the optimizer, Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Shape, strides and dtype of a matrix."""

COPIES_BYTES = 2**25
"""Memory for copies of one operand. The products take turns with them, because a step's weights are
not in a cache when they are needed."""

MOST_COPIES = 32

_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_PLACES = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""Operation → places of its two factors among the arguments. Variants in place have an underscore
after the name."""


@dataclass
class Product:
    """One matrix product, batched or not."""

    left: Layout
    right: Layout
    attention: bool = False

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        size = 2
        for number in (*self.left[0], self.right[0][-1]):
            size *= number
        return size


class Products(TorchDispatchMode):
    """Records the products of what runs inside it; a mode to be entered with `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product] = []
        self._pools: dict[tuple[str, Layout], list[Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and record it if it is a product."""
        name = str(func.overloadpacket.__name__)
        places = _PLACES.get(name.rstrip("_"))
        if places is not None:
            left, right = (args[place] for place in places)
            self.found.append(Product(_layout(left), _layout(right)))
        elif name == _ATTENTION:
            self.found += _attention(args[0], args[1], args[2], backward=False)
        elif name == f"{_ATTENTION}_backward":
            # The first argument is the gradient of the output.
            self.found += _attention(args[1], args[2], args[3], backward=True)
        return func(*args, **(kwargs or {}))

    def timer(self, *, attention: bool) -> Callable[[], float]:
        """Return a function that computes all products once, in order, and returns the seconds.

        Args:
            attention: whether those of attention are among them.
        """
        wanted = [one for one in self.found if attention or not one.attention]
        pools = self._pools
        used: dict[tuple[str, Layout], int] = {}

        def next_of(side: str, layout: Layout) -> Tensor:
            key = side, layout
            if key not in pools:
                pools[key] = [_empty(layout) for _ in range(_copies(layout))]
            used[key] = used.get(key, 0) + 1
            return pools[key][used[key] % len(pools[key])]

        outputs: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}
        calls = []
        for one in wanted:
            left, right = next_of("left", one.left), next_of("right", one.right)
            shape = (*one.left[0][:-1], one.right[0][-1])
            output = outputs.setdefault((shape, left.dtype), left.new_empty(shape))
            calls.append((left, right, output))

        def run() -> float:
            started = time.perf_counter()
            with torch.no_grad():
                for left, right, output in calls:
                    torch.matmul(left, right, out=output)
            return time.perf_counter() - started

        return run

    def flops(self, *, attention: bool) -> int:
        """Return the floating-point operations of all products."""
        return sum(one.flops for one in self.found if attention or not one.attention)


def _layout(matrix: Tensor) -> Layout:
    return tuple(matrix.shape), tuple(matrix.stride()), matrix.dtype


def _attention(query: Tensor, key: Tensor, value: Tensor, *, backward: bool) -> list[Product]:
    """Return the products of an attention kernel: two forward, five backward."""
    (rows, heads, queries, width), keys = query.shape, key.shape[2]
    batch, features = rows * heads, value.shape[3]

    def product(left: tuple[int, int], right: tuple[int, int]) -> Product:
        layouts = [
            ((batch, *size), (size[0] * size[1], size[1], 1), query.dtype) for size in (left, right)
        ]
        return Product(layouts[0], layouts[1], attention=True)

    scores = product((queries, width), (width, keys))
    if not backward:
        return [scores, product((queries, keys), (keys, features))]
    return [
        scores,
        product((keys, queries), (queries, features)),
        product((queries, features), (features, keys)),
        product((queries, keys), (keys, width)),
        product((keys, queries), (queries, width)),
    ]


def _copies(layout: Layout) -> int:
    shape, _, dtype = layout
    size = dtype.itemsize
    for number in shape:
        size *= number
    return max(1, min(MOST_COPIES, COPIES_BYTES // max(1, size)))


def _empty(layout: Layout) -> Tensor:
    """Return random numbers in a layout; an operand that is expanded shares them."""
    shape, strides, dtype = layout
    size = 1 + sum((number - 1) * stride for number, stride in zip(shape, strides, strict=True))
    return torch.randn(size, dtype=dtype).as_strided(shape, strides)
