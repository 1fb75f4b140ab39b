"""A plan as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.commands.plan.command import KindOfStage, Plan, Training
from harness.commands.plan.cost_model import CARDS, GPUS, UTILISATION
from harness.commands.plan.expected import on_processor
from harness.commands.plan.fetched import Fetched
from harness.commands.plan.processor import MEASURED_ON
from harness.graph.screen import duration

_UNKNOWN = "unknown"


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines of a plan.

    Args:
        plan: what experiments will take.
    """
    names = ", ".join(id for id, _, _ in plan.experiments)
    yield f"Plan of {names}, {plan.profile} profile. Nothing was run or fetched."
    for id, reason in plan.left_out.items():
        yield f"Left out: {id}. {reason}"
    yield from plan.methods_left_out
    if plan.runs_code:
        yield "The run needs --allow-code-execution, because it runs model-generated programs."
    yield ""
    yield from _stages(plan)
    yield from _fetch(plan.fetched)
    yield from _disk(plan)
    yield from _memory(plan.training)
    if plan.unknown:
        yield ""
        yield "Not known, and not in the totals:"
        for what, stages in plan.unknown.items():
            yield f"  {what} ({stages} stage{'s' if stages > 1 else ''})"


def _stages(plan: Plan) -> Iterator[str]:
    on_cpu = on_processor(plan.profile, plan.device)
    times = ["core time"] if on_cpu else [f"{gpu.name} h" for gpu in GPUS]
    head = f"{'stages':<26}{'all':>6}{'stored':>8}{'to run':>8}{'PFLOP':>12}"
    yield head + "".join(f"{name:>12}" for name in times)
    for one in [*plan.kinds, plan.total]:
        counts = f"{one.kind:<26}{one.stages:>6}{one.in_store:>8}{one.to_run:>8}"
        yield counts + f"{_flops(one):>12}" + "".join(f"{text:>12}" for text in _times(one, on_cpu))
    if on_cpu:
        left = duration(plan.scheduled_seconds)
        yield (
            f"About {left} with {plan.workers} stages at a time, by constants measured on "
            f"{MEASURED_ON}; the first minute of imports is not in it."
        )
        return
    yield (
        f"Hours of one card at {100 * plan.reached.compute:g} % of its peak (bfloat16, or float32 "
        f"where the profile says so) and, in sampling, {100 * plan.reached.bandwidth:g} % of its "
        "bandwidth; assumed, not measured"
        + (" (--utilisation)." if plan.reached.compute == UTILISATION else ".")
    )


def _flops(one: KindOfStage) -> str:
    if one.unknown and not one.flops:
        return _UNKNOWN
    return _number(one.flops / 1e15) + ("+" if one.unknown else "")


def _times(one: KindOfStage, on_cpu: bool) -> list[str]:
    if on_cpu:
        return [duration(one.processor_seconds)]
    more = "+" if one.unknown else ""
    return [_number(one.gpu_seconds[gpu.name] / 3600) + more for gpu in GPUS]


def _number(value: float) -> str:
    """Return a number with about three digits, and never with an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.005 else "0"


def _fetch(repositories: Sequence[Fetched]) -> Iterator[str]:
    if not repositories:
        return
    yield ""
    width = 2 + max(len(one.name) for one in repositories)
    yield (
        f"{'to fetch from the hub':<{width}}{'':>7}{'parameters':>12}{'size':>10}  "
        f"{'licence':<20}gated"
    )
    for one in repositories:
        parameters = "" if one.what != "model" else _or_unknown(one.parameters, "{:,.0f} M", 1e6)
        size = "cached" if one.cached else _size(one.download)
        gated = _UNKNOWN if one.gated is None else "yes" if one.gated else "no"
        yield (
            f"{one.name:<{width}}{one.what:>7}{parameters:>12}{size:>10}  "
            f"{one.licence or _UNKNOWN:<20}{gated}"
        )


def _disk(plan: Plan) -> Iterator[str]:
    yield ""
    yield (
        f"Disk: {_size(plan.store_bytes)} of trained models and reference caches in the store"
        + (
            f", {_size(plan.checkpoint_bytes)} more for checkpoints while runs train"
            if plan.checkpoint_bytes
            else ""
        )
        + "; texts and scores are not counted."
    )


def _memory(training: Sequence[Training]) -> Iterator[str]:
    if not training:
        return
    yield ""
    yield "Memory of training on a GPU, GB, at the longest batch that the settings allow:"
    parts = ("weights", "gradients", "optimizer", "reference", "activations", "loss", "total")
    yield f"  {'':<34}{'runs':>5}" + "".join(f"{name:>12}" for name in parts) + "  fits on"
    for one in training:
        sizes = {**one.memory.as_json(), "total": one.memory.total}
        cards = [f"{card} GB" for card in CARDS if one.memory.fits(card)]
        yield (
            f"  {_cut(one.example, 33):<34}{one.runs:>5}"
            + "".join(f"{sizes[name] / 1e9:>12.2f}" for name in parts)
            + f"  {cards[0] if cards else 'none of ' + ', '.join(map(str, CARDS)) + ' GB'}"
        )


def _cut(text: str, length: int) -> str:
    """Return a text with its end left out if it is too long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _size(count: float | None) -> str:
    if count is None:
        return _UNKNOWN
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} kB"


def _or_unknown(value: float | None, form: str, unit: float) -> str:
    return _UNKNOWN if value is None else form.format(value / unit)
