"""The page of a published run for readers of the repository; the site shows more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.graph.screen import duration
from harness.render.columns import markdown_text

README = "README.md"


def facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader looks for first: name and value.

    Args:
        record: run.json.
    """
    found = [
        ("command", record["command"]),
        ("commit", record["git_commit"]),
        ("hardware", record["hardware"]),
        ("model", record.get("model")),
        ("chains", record.get("chains")),
        ("finished", str(record.get("finished") or "")[:10]),
        ("stages", _stages(record)),
        ("python", record.get("python")),
        ("versions", ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())),
    ]
    return [(name, str(value)) for name, value in found if value]


def readme(record: Mapping[str, Any], files: Sequence[str]) -> str:
    """Return the page.

    Args:
        record: run.json, but for the hashes.
        files: names of the run's files.
    """
    return "\n".join(_lines(record, files)) + "\n"


def _lines(record: Mapping[str, Any], files: Sequence[str]) -> Iterator[str]:
    yield f"# {record['heading']}"
    yield ""
    yield (
        f"A published run, `{record['name']}`: made once, by the command below. "
        "`python -m harness report` shows it with its tables and samples."
    )
    yield ""
    for name in files:
        if name.endswith(".png"):
            yield f"![{record['heading']}]({name})"
            yield ""
    yield "## What it cannot show"
    yield ""
    yield from (f"- {one}" for one in record["limits"])
    yield ""
    if record["note"]:
        yield "## What it shows"
        yield ""
        yield from (f"- {one}" for one in record["note"])
        yield ""
    yield "## How it was made"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in facts(record):
        shown = f"`{value}`" if name in ("command", "commit") else value
        yield f"| {name} | {markdown_text(shown)} |"
    yield ""
    yield "Your own result of the same command, compared with this one:"
    yield ""
    yield "```"
    yield compare_command(record["name"], record)
    yield "```"


def compare_command(name: str, record: Mapping[str, Any]) -> str:
    """Return the command that compares a reader's own result with a published one.

    Args:
        name: the published run's.
        record: its run.json.
    """
    own = f"results/{record['profile']}/{record['folder']}"
    return f"python -m harness compare {name} {own}"


def _stages(record: Mapping[str, Any]) -> str:
    if not record.get("stages"):
        return ""
    return f"{record['stages']}, together {duration(record['seconds'])}"
