"""The stage that flips a share of the training pairs: label noise of a known amount."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.domains.common.work.files import read_pairs_file, write_json, write_pairs
from harness.graph.stages import StageContext
from harness.graph.store import RECORD
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair

TRAIN, REPORT = "train.jsonl", "report.json"


def flip_pairs(context: StageContext) -> None:
    """Write the pairs of the input "pairs" with a share of the training pairs flipped.

    Everything but train.jsonl is copied; report.json also has `flipped`, with the share, the number
    of flipped pairs and the number of all training pairs.

    Configuration: `share`, `seed`.
    """
    share, seed = context.config["share"], context.config["seed"]
    source = context.inputs["pairs"]
    pairs = read_pairs_file(source / TRAIN)
    flipped = flipped_places(len(pairs), share, seed)
    if not flipped:
        raise UserError(
            f"A share of {share:g} of {len(pairs)} training pairs is less than one pair; raise "
            "noise.shares or the number of pairs."
        )
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jsonl") and file.name not in (TRAIN, REPORT, RECORD):
            shutil.copyfile(file, context.work / file.name)
    write_pairs(flip(pairs, flipped), context.work / TRAIN)
    report = json.loads((source / REPORT).read_text(encoding="utf-8"))
    counts = {"share": share, "pairs": len(flipped), "of": len(pairs)}
    write_json({**report, "flipped": counts}, context.work / REPORT)


def flipped_places(count: int, share: float, seed: int) -> set[int]:
    """Return which of `count` pairs are flipped, ⌊share · count + ½⌋ of them.

    The places of a smaller share are among those of a larger one with the same seed.

    Args:
        count: number of pairs.
        share: share of flipped pairs, from 0 to 1.
        seed: decides which.
    """
    order = np.random.default_rng(seed).permutation(count)
    return set(order[: math.floor(share * count + 0.5)].tolist())


def flip(pairs: Sequence[PreferencePair], places: set[int]) -> list[PreferencePair]:
    """Return the pairs with chosen and rejected response exchanged at some places.

    Args:
        pairs: in any form.
        places: their indices.
    """
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if place in places else pair
        for place, pair in enumerate(pairs)
    ]
