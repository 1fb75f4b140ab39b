"""`python -m sparsepo inspect --points MODEL`: a table of the modules that masks read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sparsepo.models.points import BlockPoints, Delta, Points, Projected


class Row(NamedTuple):
    """One line of the table."""

    family: str
    role: str
    module: str
    features: str
    blocks: str


HEADER = Row("read by", "role", "module", "features", "blocks")


def show_points(model: str) -> None:
    """Print which modules of a model learned and activation masks read.

    Args:
        model: folder, GGUF file or hub id.

    Raises:
        UserError: the model cannot be loaded, or its blocks cannot be found.
    """
    import transformers

    from sparsepo.models.points import FAMILIES, missing, points_of
    from sparsepo.reference.online import unwrap_peft
    from sparsepo.training.loading import load_policy

    transformers.utils.logging.disable_progress_bar()
    points = points_of(unwrap_peft(load_policy(model)))
    print("\n".join(lines([HEADER, *rows(points)])))
    lacking = {family: missing(points, family) for family in FAMILIES}
    if not any(lacking.values()):
        print("\nLearned masks and every family of mapo can be read.")
        return
    print()
    for family, what in lacking.items():
        if what is not None:
            print(f"mapo cannot read the family {family}: {what} not found.")
    print("Learned masks and all other families can be read.")


def rows(points: Points) -> Iterator[Row]:
    """Return the table's lines: learned masks first, then mapo's families."""
    layers = points.layers
    numbers = {name: number for number, name in enumerate(layers.blocks)}
    stem = layers.blocks[0].rpartition(".")[0]

    def features(module: str) -> str:
        return " × ".join(map(str, points.shapes.get(module, ()))) or "?"

    seen: dict[tuple[str, str, str, str], list[int]] = {}
    for block in points.blocks:
        for family, role, module, note in _of_block(block):
            relative = f"{stem}.N{module.removeprefix(block.block)}"
            line = (family, role, relative, note or features(module))
            seen.setdefault(line, []).append(numbers[block.block])
    every = list(range(len(layers.blocks)))
    width = str(layers.hidden_size)
    yield Row("learned masks", "block", f"{stem}.N", width, _ranges(every))
    if layers.final_norm is not None:
        yield Row("learned masks", "final norm", layers.final_norm, width, "")
    found = [Row(*line, _ranges(blocks)) for line, blocks in seen.items()]
    # The sort is stable: the roles of a family stay in order.
    yield from sorted(found, key=lambda row: row.family)
    yield Row("residual", "token embedding", points.embedding, features(points.embedding), "")
    if layers.final_norm is not None:
        yield Row("residual", "final norm", layers.final_norm, width, "")


def _of_block(block: BlockPoints) -> Iterator[tuple[str, str, str, str]]:
    """Yield (family, role, module, features or "") of one block."""

    def projected(role: str, part: Projected) -> tuple[str, str, str, str]:
        note = f"{part.groups} × {part.stop - part.start}" if part.shared else ""
        return ("attention", role, part.module, note)

    def delta(role: str, added: Delta) -> tuple[str, str, str, str]:
        return ("residual", role if added.scale == 1 else f"{role} × {added.scale:g}",
                added.module, "")  # fmt: skip

    for activation in block.activations:
        name = "activation" if activation.experts is None else "activation of routed experts"
        yield ("mlp", name, activation.module, "by expert" if activation.experts else "")
    if block.attention is not None:
        for part_name, part in (("queries", block.query), ("keys", block.key)):
            if block.query_key_change and part is not None:
                yield projected(f"{part_name}, as projected", part)
        yield ("attention", "queries, keys, values in the kernel", block.attention, "by head")
    if block.projection is not None:
        yield ("attention", "input of the output projection", block.projection, "")
    yield ("residual", "block input and output", block.block, "")
    if block.attention_norm is not None:
        yield ("residual", "attention norm", block.attention_norm, "")
    if block.attention_delta is not None:
        yield delta("attention delta, sum after it", block.attention_delta)
    if block.mlp_norm is not None:
        yield ("residual", "MLP norm", block.mlp_norm, "")
    if block.mlp_delta is not None:
        yield delta("MLP delta", block.mlp_delta)


def _ranges(numbers: Iterable[int]) -> str:
    """Return ascending numbers as ranges, "0-3, 5"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def lines(table: list[Row]) -> Iterator[str]:
    """Yield a table's lines with aligned columns, its header underlined."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
