"""Rows of TL;DR in their own schemas, turned into a prompt, a chosen and a rejected summary.

| schema | columns | preference |
|---|---|---|
| comparisons | `info`, `summaries`, `choice` (openai/summarize_from_feedback) | people's choice |
| pairs | `prompt`, `chosen`, `rejected` | ready-made |
| rated | `post`, `responses`, `rewards` | highest against lowest rating |
| axis | `info`, `summary` with `axes.overall`, one rating a row (the same) | the same |

In rows of "axis", those of one post are put together to one "rated" row before they are parsed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from sparsepo.data.pairs import MISSING_PROMPT, MISSING_RESPONSE, Row, SkipRow
from sparsepo.errors import UserError

Schema = Literal["comparisons", "pairs", "rated", "axis"]
Preference = tuple[str, str, str]
"""(prompt, chosen, rejected), as text."""

EMPTY_POST = "empty post"
NO_POST = "not a Reddit post"
FEW_RATINGS = "fewer than two rated summaries"
EQUAL_RATINGS = "all summaries are rated equally"
NO_RATING = "a rating that is missing or not finite"

_COLUMNS: Mapping[Schema, tuple[str, ...]] = {
    "comparisons": ("info", "summaries", "choice"),
    "axis": ("info", "summary"),
    "rated": ("post", "responses", "rewards"),
    "pairs": ("prompt", "chosen", "rejected"),
}
_END = "TL;DR:"


def schema_of(row: Row, source: str) -> Schema:
    """Return the schema of a file, by the columns of its first row.

    Raises:
        UserError: the columns are those of no schema; it names them.
    """
    for schema, columns in _COLUMNS.items():
        if all(name in row for name in columns):
            return schema
    known = "; ".join(", ".join(columns) for columns in _COLUMNS.values())
    given = ", ".join(name for name in row if name != "pair_id")
    raise UserError(
        f"{source} has the columns {given or 'of an empty row'}, which are not TL;DR's; give rows "
        f"with {known}."
    )


def make_prompt(post: str, title: str | None = None, subreddit: str | None = None) -> str:
    """Return TL;DR's prompt of a post; without a title, it is the post alone.

    Raises:
        SkipRow: the post is empty.
    """
    if not post.strip():
        raise SkipRow(EMPTY_POST)
    if title is None or subreddit is None:
        return f"{post}\n\n{_END}"
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\n{_END}"


def prompt_of(row: Row, where: str) -> str:
    """Return the prompt of a row that has it, or has `post` with or without title and subreddit.

    Raises:
        SkipRow: it is empty or missing.
        UserError: it is not text.
    """
    if "prompt" in row:
        prompt = _text(row["prompt"], f"{where}: 'prompt'", MISSING_PROMPT)
        if not prompt.removesuffix(_END).strip():
            raise SkipRow(EMPTY_POST)
        return prompt
    post = _text(row.get("post"), f"{where}: 'post'", EMPTY_POST)
    title, subreddit = (
        None if row.get(name) is None else _text(row[name], f"{where}: '{name}'", EMPTY_POST)
        for name in ("title", "subreddit")
    )
    return make_prompt(post, title, subreddit)


def document_of(prompt: str) -> str:
    """Return the post of a prompt: without subreddit, title and the end "TL;DR:"."""
    text = prompt.rstrip().removesuffix(_END).strip()
    head, marker, post = text.partition("POST:")
    return post.strip() if marker and head.startswith("SUBREDDIT:") else text


def parse(schema: Schema, row: Row, where: str) -> Preference:
    """Return the preference of a row.

    Args:
        schema: of the row; "axis" rows are "rated" ones by now.
        row: its columns.
        where: names the row in errors.

    Raises:
        SkipRow: the row has no preference; the text is the reason.
        UserError: a value has a wrong type.
    """
    if schema == "comparisons":
        return _comparison(row, where)
    if schema == "pairs":
        chosen, rejected = (
            _text(row.get(name), f"{where}: '{name}'", MISSING_RESPONSE)
            for name in ("chosen", "rejected")
        )
        return prompt_of(row, where), chosen, rejected
    return _rated(row, where)


def rated_rows(rows: Iterable[Row], source: str) -> Iterator[Row]:
    """Put the rows of one post in the schema "axis" together to a row of the schema "rated".

    Yields:
        One row per post, in the order of their first rows.

    Raises:
        UserError: a value has a wrong type.
    """
    posts: dict[str, Row] = {}
    for index, row in enumerate(rows):
        where = f"{source}, row {index}"
        info, summary = (_mapping(row.get(name), f"{where}: '{name}'") for name in _COLUMNS["axis"])
        # Articles of CNN/DM are in the same files.
        key = str(info.get("id") or info.get("post") or info.get("article"))
        post = posts.setdefault(
            key,
            {
                "post": info.get("post"),
                "title": info.get("title"),
                "subreddit": info.get("subreddit"),
                "article": info.get("article"),
                "responses": [],
                "rewards": [],
            },
        )
        axes = _mapping(summary.get("axes") or {}, f"{where}: 'axes'")
        post["responses"].append(summary.get("text"))
        post["rewards"].append(axes.get("overall"))
    yield from posts.values()


def _comparison(row: Row, where: str) -> Preference:
    info = _mapping(row.get("info"), f"{where}: 'info'")
    summaries, choice = row.get("summaries"), row.get("choice")
    if not isinstance(summaries, list) or len(summaries) != 2:
        raise UserError(f"{where}: 'summaries' should be a list of two summaries.")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise UserError(f"{where}: 'choice' should be 0 or 1, not {choice!r}.")
    texts = [
        _text(
            _mapping(one, f"{where}: 'summaries'").get("text"),
            f"{where}: 'summaries'",
            MISSING_RESPONSE,
        )
        for one in summaries
    ]
    return _post(info, where), texts[int(choice)], texts[1 - int(choice)]


def _rated(row: Row, where: str) -> Preference:
    responses, rewards = row.get("responses"), row.get("rewards")
    if not isinstance(responses, list) or not isinstance(rewards, list):
        raise UserError(f"{where}: 'responses' and 'rewards' should be lists.")
    if len(responses) != len(rewards):
        raise UserError(
            f"{where}: {len(responses)} responses have {len(rewards)} rewards; give one of each."
        )
    prompt = _post(row, where)
    if len(responses) < 2:
        raise SkipRow(FEW_RATINGS)
    ratings = [_rating(value, where) for value in rewards]
    if max(ratings) == min(ratings):
        raise SkipRow(EQUAL_RATINGS)
    chosen, rejected = (
        # The first among equals.
        _text(responses[ratings.index(end)], f"{where}: 'responses'", MISSING_RESPONSE)
        for end in (max(ratings), min(ratings))
    )
    return prompt, chosen, rejected


def _post(info: Mapping[str, Any], where: str) -> str:
    if info.get("post") is None and info.get("article") is not None:
        raise SkipRow(NO_POST)
    return prompt_of({k: v for k, v in info.items() if k != "prompt"}, where)


def _rating(value: Any, where: str) -> float:
    if value is None:
        raise SkipRow(NO_RATING)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: a rating should be a number, not {type(value).__name__}.")
    if not math.isfinite(value):
        raise SkipRow(NO_RATING)
    return float(value)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} should be an object, not {type(value).__name__}.")
    return value


def _text(value: Any, where: str, missing: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise SkipRow(missing)
    if not isinstance(value, str):
        raise UserError(f"{where} should be text, not {type(value).__name__}.")
    return value
