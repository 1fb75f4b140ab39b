"""Loading from the hub: what its libraries say is shown only if no error says it better."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LIBRARIES: Final = ("datasets", "fsspec", "httpx", "huggingface_hub", "transformers")
"""Libraries whose loggers write about missing files, retries and the network."""


@contextmanager
def held_messages() -> Iterator[None]:
    """Hold back the log records and warnings of a block until it ends.

    They are written as usual where the block ends well. Where it raises they are dropped, because
    the error is then reported in one sentence, which would be lost below a page of retries.
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
            # A library that was first imported in the block has brought its own handlers.
            added = [handler for handler in logger.handlers if not isinstance(handler, _Keeping)]
            logger.handlers, logger.propagate = [*handlers, *added], propagate
    for record in records:
        logging.getLogger(record.name).handle(record)
    for warning in warned:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Keeping(logging.Handler):
    """Keeps records in a list."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
