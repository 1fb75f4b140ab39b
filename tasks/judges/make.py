"""Makes a judge from its settings."""

from __future__ import annotations

from pathlib import Path

from sparsepo.errors import UserError
from tasks.judges.base import Judge
from tasks.judges.prompt import Task
from tasks.judges.rules import RuleJudge, Rules
from tasks.judges.settings import JudgeSettings


def make_judge(
    settings: JudgeSettings,
    task: Task,
    *,
    rules: Rules | None = None,
    rules_name: str = "",
    folder: Path | str | None = None,
    device: str = "cpu",
) -> Judge:
    """Return a judge.

    Args:
        settings: which; see `check_judge`.
        task: what is compared.
        rules: the world's, where the prompts are a world's.
        rules_name: how the rules are called in results.
        folder: of a local model; by default `settings.model`.
        device: of a local model.

    Raises:
        UserError: there are no rules for these prompts, or no such model.
    """
    if settings.kind == "rules":
        if rules is None:
            raise UserError("There are no rules for these prompts; choose another judge.kind.")
        return RuleJudge(rules, rules_name)
    if settings.kind == "endpoint":
        from tasks.judges.endpoint import EndpointJudge

        return EndpointJudge(settings, task)
    # Rules and endpoints need no torch.
    from tasks.judges.local import InstructJudge, RewardJudge

    place = folder if folder is not None else str(settings.model)
    if settings.kind == "reward":
        return RewardJudge(settings, place, device)
    return InstructJudge(settings, place, device, task)
