"""Loading from the hub: ids, missing models, and messages of its libraries.

The messages are shown only if loading succeeds.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sparsepo.errors import UserError

LIBRARIES: Final = ("datasets", "fsspec", "httpx", "huggingface_hub", "transformers")
"""Libraries that log missing files, retries and network problems."""

MODEL_FILES: Final = ("config.json", "adapter_config.json")
"""Files of which a model on the hub has at least one."""


def is_hub_id(source: str) -> bool:
    """Return whether a source is a repository id on the hub and not a local path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not source or Path(source).exists() or Path(source).is_absolute():
        return False
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def require_model(source: str | Path, **options: Any) -> None:
    """Check that a model's source exists, before anything is loaded from it.

    The hub is only asked for a model that is not in its local cache.

    Args:
        source: a folder, a file or a hub id.
        options: arguments of from_pretrained; `revision`, `cache_dir` and `token` apply.

    Raises:
        UserError: there is no such path, and no such model on the hub.
    """
    import huggingface_hub
    from huggingface_hub import constants

    name = str(source)
    if Path(name).exists():
        return
    if not is_hub_id(name):
        raise UserError(
            f"There is no folder '{name}', and it is not a hub id either; give a model's folder, a "
            "GGUF file, or a hub id."
        )
    revision = options.get("revision")
    for file in MODEL_FILES:
        cached = huggingface_hub.try_to_load_from_cache(
            name, file, cache_dir=options.get("cache_dir"), revision=revision
        )
        if isinstance(cached, str):
            return
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"There is no folder '{name}', and no model of that name in the hub's local cache; "
            "check the name, or unset HF_HUB_OFFLINE to download it."
        )
    try:
        _ask_hub(name, revision, options.get("token"))
    except Exception as error:
        # The client raises its own errors, those of its HTTP library, OSError and ValueError.
        raise UserError(
            f"There is no folder '{name}', and no model of that name can be read from the hub; "
            "check the name and the network, and log in with `hf auth login` if the model is "
            "private or gated."
        ) from error


@functools.cache
def _ask_hub(name: str, revision: str | None, token: str | bool | None) -> None:
    """Raise an exception unless the hub has a model; it is asked once for each in a process."""
    import huggingface_hub

    huggingface_hub.model_info(name, revision=revision, timeout=30, token=token)


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
