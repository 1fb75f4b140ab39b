"""The stages that ask a judge: about a row's responses, and about pairs with labels."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.domains.common.work.files import MODEL, evenly_spaced, read_pairs_file, write_json
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl, write_jsonl
from sparsepo.types import PreferencePair
from tasks.judges.ask import Compared, compare_systems
from tasks.judges.base import Item, Judge
from tasks.judges.journal import VerdictJournal
from tasks.judges.make import make_judge
from tasks.judges.rules import RuleJudge, Rules
from tasks.judges.settings import JudgeSettings

_JOURNAL = "journal.jsonl"


def judge_responses(context: StageContext) -> None:
    """Write verdicts.jsonl: a line per prompt, with the verdict in each order.

    Configuration: `judge` (what its verdicts depend on), `task`, `rules` ("module:function" or
    None), `device` for a local model. Options: `judge` (how it is asked), `journals`. Inputs:
    "responses", "pairs", "opponent" (responses too; by default the chosen ones), and "judge" (a
    reward model that was trained for it).
    """
    pairs = {p.pair_id: p for p in read_pairs_file(context.inputs["pairs"] / "test.jsonl")}
    own = _responses(context.inputs["responses"])
    if "opponent" in context.inputs:
        others = _responses(context.inputs["opponent"])
    else:
        others = {id: _text(pairs[id].chosen) for id in own}
    items = [Item(id, _prompt(pairs[id]), text, others[id]) for id, text in own.items()]
    compared = _compare(context, items)
    write_jsonl(map(_line, compared), context.work / "verdicts.jsonl")


def judge_labels(context: StageContext) -> None:
    """Write labels.jsonl: the same for held-out pairs, the chosen response against the rejected.

    Configuration: as in `judge_responses`, and `pairs` (how many). Where a world's rules are known,
    each line has their verdict too.
    """
    pairs = read_pairs_file(context.inputs["pairs"] / "test.jsonl")
    items = [
        Item(pair.pair_id, _prompt(pair), _text(pair.chosen), _text(pair.rejected))
        for pair in evenly_spaced(pairs, context.config["pairs"])
    ]
    lines = [_line(one) for one in _compare(context, items)]
    if context.config["rules"] is not None:
        truth = compare_systems(_rule_judge(context.config["rules"]), items)
        lines = [{**line, "rules": one.result} for line, one in zip(lines, truth, strict=True)]
    write_jsonl(lines, context.work / "labels.jsonl")


def _compare(context: StageContext, items: Sequence[Item]) -> list[Compared]:
    judge = _judge(context)
    journal, passing = _journal(context, judge)
    compared = compare_systems(
        judge,
        items,
        journal,
        progress=lambda done, total: context.progress(done, total, "verdicts"),
    )
    write_json(judge.signature, context.work / "judge.json")
    if passing is not None:
        passing.unlink(missing_ok=True)
        passing.with_name(f"{_JOURNAL}.lock").unlink(missing_ok=True)
    return compared


def _judge(context: StageContext) -> Judge:
    config = context.config
    settings = JudgeSettings(
        **{"model": "", **config["judge"], **context.options.get("judge", {})},
    )
    if settings.kind == "rules":
        return _rule_judge(config["rules"])
    trained = context.inputs.get("judge")
    return make_judge(
        settings,
        config["task"],
        folder=context.files.get("judge") if trained is None else trained / MODEL,
        device=config.get("device", "cpu"),
    )


def _rule_judge(reference: str) -> RuleJudge:
    module, _, name = reference.partition(":")
    rules: Rules = getattr(importlib.import_module(module), name)
    return RuleJudge(rules, reference)


def _journal(context: StageContext, judge: Judge) -> tuple[VerdictJournal | None, Path | None]:
    """Return the journal, and the file to remove once the artefact holds its verdicts.

    What an endpoint has answered is kept apart from artefacts, because it is paid for.
    """
    if isinstance(judge, RuleJudge):
        return None, None
    if "journals" in context.options:
        name = hashlib.sha256(json.dumps(judge.signature, sort_keys=True).encode()).hexdigest()
        return VerdictJournal(Path(context.options["journals"]) / f"{name[:16]}.jsonl"), None
    return VerdictJournal(context.work / _JOURNAL), context.work / _JOURNAL


def _responses(folder: Path) -> dict[str, str]:
    return {row["pair_id"]: row["response"] for row in read_jsonl(folder / "responses.jsonl")}


def _prompt(pair: PreferencePair) -> Any:
    return pair.prompt if isinstance(pair.prompt, str) else list(pair.prompt)


def _text(response: Any) -> str:
    return response if isinstance(response, str) else str(response[-1]["content"])


def _line(one: Compared) -> dict[str, Any]:
    failed = [v.detail for v in (one.forward, one.backward) if v.preference == "failed"]
    return {
        "pair_id": one.item.id,
        "forward": one.forward.preference,
        "backward": one.backward.preference,
        "first_characters": len(one.item.first.strip()),
        "second_characters": len(one.item.second.strip()),
        "prompt_tokens": one.forward.prompt_tokens + one.backward.prompt_tokens,
        "completion_tokens": one.forward.completion_tokens + one.backward.completion_tokens,
        **({"failed": failed} if failed else {}),
    }
