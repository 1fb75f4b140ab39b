"""Shared by the command lines of `sparsepo` and the experiments: parser and `--set key=value`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sparsepo.errors import UserError, did_you_mean


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one plain sentence, with the closest known word."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **values})

    def error(self, message: str) -> NoReturn:
        """Raise a UserError instead of printing the usage."""
        raise UserError(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line.

        Raises:
            UserError: an unknown command or option, or an invalid value.
        """
        given = sys.argv[1:] if args is None else list(args)
        parser: argparse.ArgumentParser = self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and given:
                commands = action.choices
                if not given[0].startswith("-") and given[0] not in commands:
                    raise UserError(
                        f"Unknown command '{given[0]}'.{did_you_mean(given[0], commands)} "
                        f"Commands: {', '.join(commands)}."
                    )
                parser = commands.get(given[0], self)
        options, unknown = self.parse_known_args(given, namespace)
        if unknown:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            hint = did_you_mean(unknown[0].partition("=")[0], flags)
            raise UserError(f"Unknown option {unknown[0]}.{hint} See {parser.prog} --help.")
        return options


def split_assignment(item: str, example: str) -> tuple[str, str]:
    """Split `key=value`.

    Args:
        item: what the user wrote.
        example: what to write instead of an item without "=" or key.

    Raises:
        UserError: no "=", or no key.
    """
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set takes key=value, not '{item}'; write --set {example}, for example.")
    return key.strip(), value.strip()


def json_or_text(text: str) -> Any:
    """Return a value as JSON if it is valid JSON, otherwise as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def key_values(items: Sequence[str], example: str) -> dict[str, Any]:
    """Return `--set key=value` items by key, each value as JSON if it is valid, else as text.

    Args:
        items: the items; the last one of a key counts.
        example: what to write instead of an item without "=".

    Raises:
        UserError: no "=".
    """
    return {key: json_or_text(text) for key, text in (split_assignment(i, example) for i in items)}
