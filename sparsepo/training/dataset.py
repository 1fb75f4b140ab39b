"""A trainer's data: pairs, rows with TRL's columns, or an endless stream of rows.

Rows are dictionaries with the columns that `read_pairs` accepts, given as a list, a
`datasets.Dataset` or a `datasets.DatasetDict` with one split. A stream (`datasets.IterableDataset`,
a generator) is never read as a whole, but only a few rows ahead of the step that trains on them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import datasets
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from sparsepo.data.pairs import PairData, pairs_of_rows
from sparsepo.errors import EmptyDataError, UserError
from sparsepo.methods.base import Method
from sparsepo.training.config import POConfig
from sparsepo.types import PreferencePair, TokenizedPair

ROWS_AHEAD = 64
"""Number of rows of a stream that are read and tokenized together."""

PATIENCE = 10_000
"""Number of consecutive unusable rows of a stream after which training stops."""

Tokenize = Callable[[Sequence[PreferencePair]], list[TokenizedPair]]


_log = logging.getLogger(__name__)


def is_stream(data: object) -> bool:
    """Return whether data has no length, and possibly no end."""
    if isinstance(data, datasets.IterableDataset | IterableDataset | Iterator):
        return True
    return isinstance(data, Iterable) and not hasattr(data, "__len__")


def to_pairs(data: Any, name: str, *, unpaired: bool = False) -> Sequence[PreferencePair]:
    """Return the pairs of finite data; pairs read from rows come with a report.

    Rows without a preference are skipped, and a warning counts them.

    Args:
        data: pairs, or rows with TRL's columns.
        name: the trainer's argument, for messages and the pairs' ids.
        unpaired: whether rows may have one response and a label, see `read_pairs`.

    Raises:
        UserError: the data is of an unknown type, has several splits, is a stream, or has no pair.
    """
    data = finite(
        data,
        name,
        "a list of rows with prompt, chosen and rejected, or what sparsepo.read_pairs(FILE).pairs "
        "returns",
    )
    if isinstance(data, PairData):
        return data
    if all(isinstance(item, PreferencePair) for item in data):
        return list(data)
    arrow = isinstance(data, datasets.Dataset)
    found = pairs_of_rows(_rows(data, name), name, arrow=arrow, unpaired=unpaired)
    if found.report.skipped:
        _log.warning("%s", found.report)
    return found


def finite(data: Any, name: str, else_give: str) -> Any:
    """Return finite data with a length: a sequence or a `datasets.Dataset`.

    Args:
        data: what the user gave.
        name: the trainer's argument, for messages.
        else_give: what it may be besides a datasets.Dataset, for messages.

    Raises:
        UserError: it has several splits, is a stream, or of another type.
    """
    data = one_split(data, name)
    if is_stream(data):
        raise UserError(
            f"{name} is a stream, which may be endless; take a part of it, such as "
            "list(stream.take(200))."
        )
    if isinstance(data, Dataset) and not isinstance(data, datasets.Dataset):
        data = [data[item] for item in range(len(data))]  # type: ignore[arg-type]
    if not isinstance(data, Sequence | datasets.Dataset) or isinstance(data, str | bytes):
        raise UserError(
            f"{name} is of type {type(data).__name__}; give a datasets.Dataset, {else_give}."
        )
    return data


def one_split(data: Any, name: str) -> Any:
    """Return the only split of a `datasets.DatasetDict` or another mapping; other data unchanged.

    Raises:
        UserError: there are several.
    """
    if not isinstance(data, Mapping):
        return data
    if len(data) == 1:
        return next(iter(data.values()))
    raise UserError(
        f"{name} has several splits ({', '.join(map(str, data))}); give one of them, such as "
        f"dataset['{next(iter(data), 'train')}']."
    )


def eval_sets(
    data: Any, *, unpaired: bool = False
) -> Sequence[PreferencePair] | dict[str, Sequence[PreferencePair]] | None:
    """Return a trainer's evaluation pairs: one set, or several by name.

    Args:
        data: see `to_pairs`; or a mapping from names to such data, or None.
        unpaired: see `to_pairs`.

    Raises:
        UserError: see `to_pairs`.
    """
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {
            str(key): to_pairs(part, f"eval_dataset[{key!r}]", unpaired=unpaired)
            for key, part in data.items()
        }
    return to_pairs(data, "eval_dataset", unpaired=unpaired)


def check_streaming(args: POConfig, method: Method) -> None:
    """Check that nothing needs all pairs in advance, which a stream does not provide.

    Raises:
        UserError: an option or the method does, or max_steps is not set.
    """
    if method.needs.models:
        raise UserError(
            f"Method '{method.name}' needs all pairs before training, which a stream does not "
            "provide; take a part of the stream, such as list(stream.take(1000))."
        )
    if args.max_steps <= 0:
        raise UserError("A stream has no length; set max_steps.")
    if args.reference_cache is not None:
        raise UserError(
            "reference_cache needs all pairs before training, which a stream does not provide; "
            "leave it out, or take a part of the stream, such as list(stream.take(1000))."
        )
    if args.token_masks is not None:
        raise UserError(
            "token_masks needs all pairs before training, which a stream does not provide; take a "
            "part of the stream, such as list(stream.take(1000))."
        )
    if args.train_sampling_strategy == "group_by_length":
        raise UserError(
            "train_sampling_strategy=group_by_length needs all pairs before training, which a "
            "stream does not provide; leave it out (length_bucketed=true works within a step)."
        )


def first_pairs(data: list[TokenizedPair] | Stream | None) -> list[TokenizedPair]:
    """Return the tokenized pairs available before training: all, or the first ones of a stream."""
    return data.first(ROWS_AHEAD) if isinstance(data, Stream) else data or []


def _rows(data: Iterable[Any], name: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise UserError(
                f"{name}, row {number} is of type {type(row).__name__}; all rows must be "
                "dictionaries with chosen and rejected, or all must be PreferencePairs."
            )
        yield dict(row)


class Stream(IterableDataset[TokenizedPair]):
    """Tokenized pairs of a stream, computed on demand.

    Data that can be iterated repeatedly (`datasets.IterableDataset`) is iterated once per epoch;
    data that can be read only once (a generator) gives a single epoch.
    """

    def __init__(
        self,
        data: Any,
        tokenize: Tokenize,
        name: str = "train_dataset",
        *,
        unpaired: bool = False,
    ) -> None:
        """Wrap a stream without reading it.

        Args:
            data: see `is_stream`.
            tokenize: tokenizes a few pairs, skipping those that do not fit.
            name: the trainer's argument, for messages and ids.
            unpaired: see `to_pairs`.
        """
        self._data = data
        self._tokenize = tokenize
        self._name = name
        self._unpaired = unpaired

    def first(self, count: int) -> list[TokenizedPair]:
        """Return the first pairs, without removing them from the training data.

        Raises:
            UserError: there is no pair, or a row is of an unknown type.
        """
        if not isinstance(self._data, Iterator):
            found = list(islice(self, count))
        else:
            rows: list[Any] = []
            # Rows that were read must be put back, because a generator gives them only once.
            found = list(islice(self._pairs_of(_noted(self._data, rows)), count))
            self._data = chain(rows, self._data)
        if not found:
            raise UserError(
                f"{self._name} has no usable row; check its columns, or raise max_length."
            )
        return found

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of a stream that shuffles its own rows."""
        if hasattr(self._data, "set_epoch"):
            self._data.set_epoch(epoch)

    def __iter__(self) -> Iterator[TokenizedPair]:
        data: Iterable[Any] = self._data
        worker = get_worker_info()
        if worker is not None and not isinstance(data, datasets.IterableDataset):
            # datasets distributes its shards over the loader's workers itself.
            data = islice(data, worker.id, None, worker.num_workers)
        return self._pairs_of(data)

    def _pairs_of(self, data: Iterable[Any]) -> Iterator[TokenizedPair]:
        rows, start, unusable = iter(data), 0, 0
        while chunk := list(islice(rows, ROWS_AHEAD)):
            try:
                tokenized = self._tokenize_rows(chunk, start)
            except EmptyDataError:
                tokenized = []
            start += len(chunk)
            unusable = 0 if tokenized else unusable + len(chunk)
            if unusable >= PATIENCE:
                raise UserError(
                    f"None of the last {unusable} rows of {self._name} is usable; check them, or "
                    "raise max_length if they are too long."
                )
            yield from tokenized

    def _tokenize_rows(self, chunk: list[Any], start: int) -> list[TokenizedPair]:
        pairs = [item for item in chunk if isinstance(item, PreferencePair)]
        if len(pairs) < len(chunk):
            rows = [
                row if {"pair_id", "id"} & row.keys() else {**row, "pair_id": f"row {start + n}"}
                for n, row in enumerate(_rows(chunk, self._name))
            ]
            where = self._name if start == 0 else f"{self._name} from row {start}"
            arrow = isinstance(self._data, datasets.IterableDataset)
            pairs = pairs_of_rows(rows, where, arrow=arrow, unpaired=self._unpaired).pairs
        return self._tokenize(pairs)


def _noted(items: Iterator[Any], note: list[Any]) -> Iterator[Any]:
    for item in items:
        note.append(item)
        yield item
