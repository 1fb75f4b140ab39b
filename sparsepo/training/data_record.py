"""The record of a run's data in its checkpoints: a run resumes only with the data it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsepo.errors import UserError
from sparsepo.reference.fingerprint import pair_hash
from sparsepo.training.given_masks import GivenMasks
from sparsepo.types import PreferencePair, TokenizedPair

DATA_FILE = "data.json"
"""File of a checkpoint with the hashes of the pairs."""

EvalPairs = Sequence[PreferencePair] | Mapping[str, Sequence[PreferencePair]] | None


def data_record(
    training: object, evaluation: EvalPairs, masks: GivenMasks | None = None
) -> dict[str, Any]:
    """Return the hashes of a run's pairs, as JSON data.

    Training pairs are hashed as tokens, which also depend on the tokenizer and the length limits;
    evaluation pairs as text, because they are tokenized only for an evaluation.

    Args:
        training: the tokenized training pairs; a stream, which cannot be hashed, is recorded as
            null.
        evaluation: the evaluation pairs, or several sets by name.
        masks: given masks, which are recorded if there are any.
    """
    sets = evaluation if isinstance(evaluation, Mapping) else {"": evaluation or []}
    record = {} if masks is None else {"token_masks": masks.hash}
    return record | {
        "training": _training_hash(training) if isinstance(training, Sequence) else None,
        "evaluation": {name: _evaluation_hash(pairs) for name, pairs in sets.items()},
    }


def check_same_data(checkpoint: Path, record: Mapping[str, Any]) -> None:
    """Check that a checkpoint was written by a run with the same pairs.

    Checkpoints without a record, and streams, pass.

    Args:
        checkpoint: the folder to resume from.
        record: of this run, see `data_record`.

    Raises:
        UserError: the training or evaluation pairs, or given masks, differ.
    """
    try:
        written = json.loads((checkpoint / DATA_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    if None not in (written["training"], record["training"]):
        _require_same(checkpoint, "training", written["training"] == record["training"])
    _require_same(checkpoint, "evaluation", written["evaluation"] == record["evaluation"])
    if written.get("token_masks") != record.get("token_masks"):
        raise UserError(
            f"{checkpoint} was written by a run with other token_masks; use the same file to "
            "resume it, or choose another output folder to start a new run."
        )


def _require_same(checkpoint: Path, what: str, same: bool) -> None:
    if not same:
        raise UserError(
            f"{checkpoint} was written by a run with other {what} pairs; use the same data and "
            "length limits to resume it, or choose another output folder to start a new run."
        )


def _training_hash(pairs: Iterable[TokenizedPair]) -> str:
    return _hash([pair.pair_id, pair_hash(pair)] for pair in pairs)


def _evaluation_hash(pairs: Iterable[PreferencePair]) -> str:
    return _hash(
        [pair.pair_id, pair.prompt, pair.chosen, pair.rejected, dict(pair.chat_template_kwargs)]
        for pair in pairs
    )


def _hash(items: Iterable[Any]) -> str:
    result = hashlib.sha256()
    for item in items:
        # Messages may contain values that JSON has no form for, such as dates.
        result.update(json.dumps(item, sort_keys=True, default=str).encode() + b"\n")
    return result.hexdigest()
