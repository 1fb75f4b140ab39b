"""A judge of two responses as the reward of training on samples of a policy."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from sparsepo.data.pairs import Content
from sparsepo.errors import UserError
from tasks.judges.ask import compare_systems
from tasks.judges.base import Item, Judge
from tasks.judges.journal import VerdictJournal
from tasks.judges.make import make_judge
from tasks.judges.prompt import Task
from tasks.judges.settings import JudgeSettings, check_judge
from tasks.metrics.preference import SCORES

_log = logging.getLogger(__name__)


class JudgeReward:
    """The share of a prompt's other samples that a judge finds worse than a sample, ties ½.

    Every two samples of a prompt are compared, each in both orders: K samples cost K(K − 1)
    questions. A comparison without a verdict is left out of both shares, and a sample without any
    verdict has ½.

    Args:
        judge: the judge.
        journal: where verdicts are kept, so that a resumed run asks nothing twice; None keeps none.
    """

    def __init__(self, judge: Judge, journal: VerdictJournal | None = None) -> None:
        self._judge = judge
        self._journal = journal

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        """Return the rewards of samples.

        Args:
            prompts: of each sample; those with equal prompts are compared.
            responses: the samples.

        Raises:
            UserError: a prompt has a single sample, or the judge gives no verdict at all.
        """
        groups: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            groups.setdefault(json.dumps(prompt, sort_keys=True), []).append(place)
        if any(len(own) < 2 for own in groups.values()):
            raise UserError(
                "A judge compares the samples of a prompt, and one has a single sample; raise "
                "samples_per_prompt."
            )
        compared = [both for own in groups.values() for both in combinations(own, 2)]
        items = [
            Item(str(number), _given(prompts[one]), responses[one], responses[other])
            for number, (one, other) in enumerate(compared)
        ]
        shares: list[list[float]] = [[] for _ in responses]
        failed = []
        found = compare_systems(self._judge, items, self._journal)
        for (one, other), result in zip(compared, found, strict=True):
            if result.result == "failed":
                both = (result.forward, result.backward)
                failed.append(next(v.detail for v in both if v.preference == "failed"))
                continue
            points = SCORES[result.result]
            shares[one].append(points)
            shares[other].append(1 - points)
        if failed and len(failed) == len(compared):
            raise UserError(
                f"The judge gave no verdict in any of {len(compared)} comparisons (the first: "
                f"{failed[0][:100]!r}); choose another judge, or shorter samples."
            )
        if failed:
            _log.warning(
                "The judge gave no verdict in %d of %d comparisons (the first: %r), which are "
                "left out.",
                len(failed),
                len(compared),
                failed[0][:100],
            )
        return [sum(own) / len(own) if own else 0.5 for own in shares]


def judge_reward(
    task: Task = "dialogue", *, journal: str | None = None, device: str = "cpu", **settings: Any
) -> JudgeReward:
    """Return a judge as a reward, from the settings that an experiment's judge has.

    Args:
        task: what is judged, "dialogue" or "summary".
        journal: file of the verdicts.
        device: of a local model.
        settings: fields of JudgeSettings: `kind` ("endpoint", "instruct" or "reward"), `model` …

    Raises:
        UserError: a setting is unknown, wrong or missing, there is no such model, or calls may cost
            something and it was not agreed to.
    """
    known = set(JudgeSettings.__dataclass_fields__)
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(
            f"A judge has no setting '{unknown[0]}'; choose from {', '.join(sorted(known))}."
        )
    made = JudgeSettings(**settings)
    check_judge(made, settings, knows_rules=False)
    if not (made.is_free or made.agree):
        raise UserError(
            "Every step of training asks this endpoint, which may cost money; set price_in=0 and "
            "price_out=0 if it does not, or agree=True."
        )
    kept = None if journal is None else VerdictJournal(journal)
    return JudgeReward(make_judge(made, task, device=device), kept)


def _given(prompt: Content) -> Any:
    """Return a prompt as judges read it: a text, or a list of messages."""
    return prompt if isinstance(prompt, str) else list(prompt)
