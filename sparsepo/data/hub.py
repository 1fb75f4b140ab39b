"""Loading from the hub: messages of its libraries are shown only if loading succeeds."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LIBRARIES: Final = ("datasets", "fsspec", "httpx", "huggingface_hub", "transformers")
"""Libraries that log missing files, retries and network problems."""


@contextmanager
def defer_messages() -> Iterator[None]:
    """Delay the log records and warnings of a block until it ends.

    They are written as usual if the block succeeds. If it raises, they are dropped, because the
    one-sentence error would be lost below a page of retries.
    """
    records: list[logging.LogRecord] = []
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [_Keeping(records)], False
    try:
        with warnings.catch_warnings(record=True) as warned:
            yield
    finally:
        for logger, handlers, propagate in before:
            # A library that was first imported in the block has added its own handlers.
            added = [handler for handler in logger.handlers if not isinstance(handler, _Keeping)]
            logger.handlers, logger.propagate = [*handlers, *added], propagate
    for record in records:
        logging.getLogger(record.name).handle(record)
    for warning in warned:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Keeping(logging.Handler):
    """Collects records in a list."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
