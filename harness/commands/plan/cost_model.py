"""What a transformer costs, by formula: FLOPs, memory and disk from its sizes alone.

With L layers of width d and vocabulary V, and N_b the weights of all layers that multiply every
token (without embeddings, norms and head):

    forward pass of T tokens, predicted at P positions, in rows of s tokens
        2 N_b T  +  4 L d s T  +  2 V d P
    training pass: 3 times as much (backward is twice forward), 4 times without the head where
        activations are recomputed; 6 N D is its first term. Beside adapters: 2 times, and 3 times
        for the adapters, because frozen weights have no gradient
    decoding of G tokens behind a context of s
        2 (N_b + V d) G  +  4 L d s G, or what it takes to read the weights once per step of a
        batch, and each row's keys and values: the larger one

The quadratic term has no factor ½: attention over packed rows uses a dense mask, and its masked
half is computed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FLOAT32, HALF, FOUR_BITS = 4.0, 2.0, 0.5
"""Bytes of a weight."""
ADAM = 8.0
"""Bytes of AdamW's two moments of a trained weight."""
SAVED = 17
"""Values of size d that a layer keeps for the backward pass of a token, without attention's scores,
which SDPA does not keep [Korthikanti et al. 2022, equation 2: 34 s b h bytes at two bytes each]."""
QUANTIZATION = 0.127 / 8
"""Bytes of a 4-bit weight's constants, with double quantization [Dettmers et al. 2023]."""
BLOCK_LOGITS = 1 << 27
"""Logits that the fused operation computes at a time on a GPU (docs/speed.md)."""
KEPT_BLOCKS = float(1 << 30)
"""Bytes of blocks that it keeps for the backward pass on a GPU (docs/speed.md)."""
OVERHEAD = 1.5e9
"""Bytes of the CUDA context, the libraries' workspaces and the allocator's slack; assumed."""
USABLE = 0.95
"""Share of a card's nominal memory that a process may fill; assumed."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that its cost follows from."""

    layers: int
    width: int
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    parameters: int
    """All of them, as they are stored."""
    kv_width: int | None = None
    """Width of keys and values together; None for 2 · width, as without shared heads."""
    feed_forward: int = 2
    """Matrices of the feed-forward layer: 3 with a gate."""

    @property
    def keys_and_values(self) -> int:
        """Width of keys and values together."""
        return 2 * self.width if self.kv_width is None else self.kv_width

    @property
    def body(self) -> int:
        """N_b: weights of all layers that multiply every token."""
        attention = self.width * (2 * self.width + self.keys_and_values)
        return self.layers * (attention + self.feed_forward * self.width * self.inner)

    @property
    def head(self) -> int:
        """V d: weights of the output projection."""
        return self.vocabulary * self.width


def forward_flops(shape: Shape, tokens: float, length: float, predicted: float) -> float:
    """Return the FLOPs of a forward pass.

    Args:
        shape: the model.
        tokens: T, of all rows.
        length: s, of a row.
        predicted: P, positions at which the head is computed.
    """
    attention = 4.0 * shape.layers * shape.width * length * tokens
    return 2.0 * shape.body * tokens + attention + 2.0 * shape.head * predicted


def training_flops(
    shape: Shape,
    tokens: float,
    length: float,
    predicted: float,
    recompute: bool = False,
    adapters: int | None = None,
) -> float:
    """Return the FLOPs of a forward and backward pass; see `forward_flops`.

    Args:
        shape: the model.
        tokens: T, of all rows.
        length: s, of a row.
        predicted: P, positions at which the head is computed.
        recompute: whether the layers' activations are recomputed in the backward pass.
        adapters: trained weights of adapters beside frozen ones; None if all weights are trained.
    """
    again = forward_flops(shape, tokens, length, 0.0) if recompute else 0.0
    whole = forward_flops(shape, tokens, length, predicted)
    if adapters is None:
        return 3.0 * whole + again
    # Frozen weights need the gradient of their inputs, and none of their own.
    return 2.0 * whole + 6.0 * adapters * tokens + again


@dataclass(frozen=True)
class Decoding:
    """What it takes to generate tokens one after another."""

    flops: float = 0.0
    read: float = 0.0
    """Bytes of weights, keys and values that are read."""
    steps: float = 0.0
    """Forward passes of a batch with one new token per row, times the model's layers."""

    def __add__(self, other: Decoding) -> Decoding:
        return Decoding(self.flops + other.flops, self.read + other.read, self.steps + other.steps)


def decoding(
    shape: Shape, responses: float, prompt: float, new_tokens: float, batch: int, size: float
) -> Decoding:
    """Return the cost of generating responses, without the pass over the prompts.

    Args:
        shape: the model.
        responses: how many.
        prompt: tokens of a prompt.
        new_tokens: tokens of a response.
        batch: responses that are generated together.
        size: bytes of a weight.
    """
    context = prompt + new_tokens / 2
    generated = responses * new_tokens
    per_token = 2.0 * (shape.body + shape.head) + 4.0 * shape.layers * shape.width * context
    flops = per_token * generated
    steps = -(-responses // batch) * new_tokens
    cached = shape.layers * shape.keys_and_values * context * size * generated
    return Decoding(flops, steps * (shape.body + shape.head) * size + cached, steps * shape.layers)


def adapter_weights(shape: Shape, rank: int, targets: str | None) -> int:
    """Return the trained weights of LoRA's adapters.

    Args:
        shape: the model.
        rank: r; an adapter of an n × m matrix has r (n + m) weights.
        targets: names of the modules joined by +; None for the usual ones: keys, queries, values.
    """
    d, inner, kv = shape.width, shape.inner, shape.keys_and_values // 2
    sizes = {
        "q_proj": d + d, "k_proj": d + kv, "v_proj": d + kv, "out_proj": d + d, "o_proj": d + d,
        "fc_in": d + inner, "fc_out": d + inner, "fc1": d + inner, "fc2": d + inner,
        "gate_proj": d + inner, "up_proj": d + inner, "down_proj": d + inner,
    }  # fmt: skip
    usual = d + d + 2 * kv
    names = targets.split("+") if targets else []
    return rank * shape.layers * (sum(sizes.get(name, usual) for name in names) or usual)


def trained_adapters(shape: Shape, training: Mapping[str, Any]) -> int | None:
    """Return the trained weights of a run's adapters; None if it trains the whole model.

    Args:
        shape: the model.
        training: the fields of TrainingSettings.
    """
    if training["lora_r"] is None:
        return None
    return adapter_weights(shape, training["lora_r"], training["lora_targets"])


@dataclass(frozen=True)
class Memory:
    """Bytes on the GPU of one process that trains, at the longest batch that the settings allow."""

    weights: float
    gradients: float
    optimizer: float
    reference: float
    activations: float
    loss: float
    """Blocks of logits of the fused operation, and the head's gradient."""
    overhead: float = OVERHEAD

    @property
    def total(self) -> float:
        """The sum."""
        return sum(self.as_json().values())

    def as_json(self) -> dict[str, float]:
        """Return the parts by name."""
        return {name: float(getattr(self, name)) for name in self.__dataclass_fields__}

    def fits(self, card: float) -> bool:
        """Whether it fits on a card.

        Args:
            card: nominal memory in GB.
        """
        return self.total <= USABLE * card * 1e9


def training_memory(
    shape: Shape,
    training: Mapping[str, Any],
    *,
    rejected: bool = True,
    reference: bool = False,
    kl: bool = False,
) -> Memory:
    """Return the memory of a training run.

    Args:
        shape: the policy.
        training: the fields of TrainingSettings.
        rejected: whether the method reads rejected responses.
        reference: whether the reference runs beside the policy, and not from a cache.
        kl: whether the method reads the distributions of both models.
    """
    quantized, adapters = training["load_in_4bit"], trained_adapters(shape, training)
    whole = shape.parameters - shape.body
    weights = FLOAT32 * shape.parameters
    if quantized:
        weights = (FOUR_BITS + QUANTIZATION) * shape.body + FLOAT32 * whole
    trained = shape.parameters if adapters is None else adapters
    if adapters is not None:
        weights += FLOAT32 * trained
    size = HALF if training["precision"] == "bfloat16" else FLOAT32
    prompt = training["max_prompt_length"]
    answer = training["max_length"] - prompt
    row = prompt + (2 if rejected else 1) * answer
    pairs = training["device_batch_size"]
    of_layer = SAVED * shape.width * size * row * pairs
    inputs = shape.layers * shape.width * size * row * pairs
    kept = of_layer + inputs if training["activation_checkpointing"] else shape.layers * of_layer
    predicted = pairs * (2 if rejected else 1) * answer
    logits = predicted * shape.vocabulary * FLOAT32 * (2 if kl else 1)
    block = min(logits, 2 * BLOCK_LOGITS * FLOAT32 * (2 if kl else 1))
    trains_head = adapters is None
    return Memory(
        weights=weights,
        gradients=FLOAT32 * trained,
        optimizer=ADAM * trained,
        reference=FLOAT32 * shape.parameters if reference and adapters is None else 0.0,
        activations=kept + pairs * row * row * size,
        loss=block + min(logits, KEPT_BLOCKS) + (FLOAT32 * shape.head if trains_head else 0.0),
    )


def model_bytes(shape: Shape, training: Mapping[str, Any]) -> float:
    """Return the size of a trained model in the store: float32 weights, or adapters alone."""
    adapters = trained_adapters(shape, training)
    return FLOAT32 * (shape.parameters if adapters is None else adapters)


def checkpoint_bytes(shape: Shape, training: Mapping[str, Any]) -> float:
    """Return the disk of a run's checkpoints while it trains: weights and moments, 0 without them.

    One is kept, the next is written before it is removed, and where the best one on validation
    pairs is chosen, that one is kept beside them.
    """
    steps = training["validation_steps"] or training["save_steps"]
    if steps is None:
        return 0.0
    copies = 3 if training["validation_steps"] else 2
    return copies * model_bytes(shape, training) * (FLOAT32 + ADAM) / FLOAT32


@dataclass(frozen=True)
class Gpu:
    """A card: peaks of its data sheet, dense and without sparsity."""

    name: str
    memory: float
    """GB."""
    bfloat16: float
    """FLOP/s."""
    float32: float
    """FLOP/s, without TF32, which torch leaves off for matrix products."""
    bandwidth: float
    """Bytes per second."""


GPUS = (
    # NVIDIA's data sheets, SXM cards: A100 80GB (2021), H100 (2023), H200 (2024).
    Gpu("A100", 80, 312e12, 19.5e12, 2.039e12),
    Gpu("H100", 80, 989.4e12, 66.9e12, 3.35e12),
    Gpu("H200", 141, 989.4e12, 66.9e12, 4.8e12),
)
CARDS = (24, 40, 80, 141)
"""GB of common cards, on which a run may fit."""
UTILISATION = 0.35
"""Share of the peak that training and forward passes reach; assumed, `--utilisation`."""
BANDWIDTH_UTILISATION = 0.25
"""Share of the bandwidth that decoding reaches; assumed, `--bandwidth-utilisation`. A step of small
matrices waits for kernel launches."""


@dataclass(frozen=True)
class Utilisation:
    """Shares of a card's peaks that are reached."""

    compute: float = UTILISATION
    bandwidth: float = BANDWIDTH_UTILISATION


def gpu_seconds(
    gpu: Gpu, flops: float, precision: str, decoded: Decoding, reached: Utilisation
) -> float:
    """Return the time of passes and decoding on one card.

    Args:
        gpu: the card.
        flops: of forward and training passes.
        precision: "float32" or "bfloat16".
        decoded: what is generated.
        reached: the share of the card's peaks.
    """
    peak = (gpu.float32 if precision == "float32" else gpu.bfloat16) * reached.compute
    waiting = max(decoded.flops / peak, decoded.read / (gpu.bandwidth * reached.bandwidth))
    return flops / peak + waiting
