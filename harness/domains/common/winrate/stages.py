"""The stages of win rates: verdicts on every row, and the judge's agreement with the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config.assign import assigned_keys
from harness.config.request import RunRequest
from harness.domains.common.stages import GENERATION, model_folder
from harness.domains.common.winrate.spec import BASELINE, CHOSEN, Answers, Contest
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from tasks.judges.cost import CostEstimate, estimate_cost
from tasks.judges.settings import TRAINED, JudgeSettings, check_judge, circumstances, deciding

JOURNALS = "verdicts"
"""Folder of the store with the journals of judges at endpoints; they outlive every artefact."""


@dataclass(frozen=True)
class ChainVerdicts:
    """The judge's stages in one chain."""

    answers: Answers
    against: Mapping[str, Mapping[str, Stage]]
    """Opponent ("chosen", "dpo") → row id → verdicts."""
    trained: Stage | None
    """The judge, where it is trained on the chain's pairs."""
    labels: Stage
    """Verdicts on held-out pairs, whose better response the data knows."""


@dataclass(frozen=True)
class WinrateGraph:
    """All stages of a table of win rates."""

    judge: JudgeSettings
    contest: Contest
    chains: tuple[ChainVerdicts, ...]
    cost: CostEstimate
    """Of all questions, as if none had been asked before."""

    @property
    def asking(self) -> list[Stage]:
        """The stages that ask the judge."""
        return [
            stage
            for chain in self.chains
            for stage in (
                chain.labels,
                *(stage for rows in chain.against.values() for stage in rows.values()),
            )
        ]

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the table can be made, data first."""
        pairs = [chain.answers.pairs for chain in self.chains]
        responses = [s for chain in self.chains for s in chain.answers.responses.values()]
        return [*pairs, *responses, *self.asking]


def judge_keys(request: RunRequest) -> set[str]:
    """Return the names of the judge's settings that the user has set."""
    keys = assigned_keys(request.assignments)
    return {key.removeprefix("judge.") for key in keys if key.startswith("judge.")}


def build_winrate(
    judge: JudgeSettings,
    contest: Contest,
    chains: Sequence[Answers],
    *,
    device: str,
    request: RunRequest,
) -> WinrateGraph:
    """Describe what a table of win rates needs.

    Args:
        judge: which judge.
        contest: what is compared.
        chains: the responses of each chain.
        device: of a local judge.
        request: the user's options.

    Raises:
        UserError: the judge's settings contradict each other, or its folder is no model.
    """
    check_judge(judge, judge_keys(request), contest.rules is not None)
    stages = _Stages(judge, contest, device, request.store.absolute() / JOURNALS)
    judged = tuple(stages.chain(answers) for answers in chains)
    counts = {
        stage.address: judge.label_pairs if stage is chain.labels else contest.prompts
        for chain in judged
        for stage in (chain.labels, *(s for rows in chain.against.values() for s in rows.values()))
    }
    cost = estimate_cost(
        judge, contest.task, sum(counts.values()), contest.prompt_tokens, contest.response_tokens
    )
    return WinrateGraph(judge, contest, judged, cost)


class _Stages:
    """Makes the judge's stages."""

    def __init__(self, judge: JudgeSettings, contest: Contest, device: str, journals: Path) -> None:
        self.contest, self.judge = contest, judge
        local = judge.kind in ("reward", "instruct")
        self.trains = judge.kind == "reward" and judge.model == TRAINED
        folder = None
        if local and not self.trains:
            folder = model_folder("judge.model", str(judge.model))
        config: dict[str, Any] = {"judge": deciding(judge), "task": contest.task}
        if local:
            config["device"] = device
        if folder is None:
            config["judge"]["model"] = judge.model
        self.config = config
        self.device = device
        self.files = {} if folder is None else {"judge": folder}
        self.libraries: tuple[str, ...] = GENERATION if local else ()
        self.options: dict[str, Any] = {"judge": circumstances(judge)}
        if judge.kind == "endpoint":
            self.options["journals"] = str(journals)

    def chain(self, answers: Answers) -> ChainVerdicts:
        """Return the stages of one chain."""
        trained = self._trained(answers) if self.trains else None
        judge = {} if trained is None else {"judge": trained}
        opponents: dict[str, Stage | None] = {CHOSEN: None}
        if BASELINE in answers.responses:
            opponents[BASELINE] = answers.responses[BASELINE]
        against = {
            name: {
                row: self._verdicts(row, answers, name, opponent, judge)
                for row in answers.responses
                if row != name
            }
            for name, opponent in opponents.items()
        }
        return ChainVerdicts(answers, against, trained, self._labels(answers, judge))

    def _trained(self, answers: Answers) -> Stage:
        if answers.sft is None:
            raise UserError(
                f"judge.model={TRAINED} needs an SFT model that the run trains; give a reward "
                "model's folder or hub id."
            )
        return Stage(
            f"reward model, {self.contest.task} seed {answers.seed}",
            "harness.domains.common.work.reward_model:train_judge",
            {"train": asdict(self.judge.train), "seed": answers.seed, "device": self.device},
            {"model": answers.sft, "pairs": answers.pairs},
            libraries=GENERATION,
            seconds_hint=20,
        )

    def _verdicts(
        self,
        row: str,
        answers: Answers,
        name: str,
        opponent: Stage | None,
        judge: Mapping[str, Stage],
    ) -> Stage:
        own = answers.responses[row]
        inputs = {"responses": own, "pairs": answers.pairs, **judge}
        if opponent is not None:
            inputs["opponent"] = opponent
        uses_rules = self.judge.kind == "rules"
        return self._stage(
            f"verdicts on {row} against {name}, {self.contest.task} seed {answers.seed}",
            "judge_responses",
            {"rules": self.contest.rules if uses_rules else None},
            inputs,
        )

    def _labels(self, answers: Answers, judge: Mapping[str, Stage]) -> Stage:
        return self._stage(
            f"verdicts on labelled pairs, {self.contest.task} seed {answers.seed}",
            "judge_labels",
            {"rules": self.contest.rules, "pairs": self.judge.label_pairs},
            {"pairs": answers.pairs, **judge},
        )

    def _stage(
        self, name: str, function: str, config: Mapping[str, Any], inputs: Mapping[str, Stage]
    ) -> Stage:
        rules = config["rules"]
        return Stage(
            name,
            f"harness.domains.common.work.verdicts:{function}",
            {**self.config, **config},
            inputs,
            self.files,
            # The rules are a domain's, which the common stage names and does not import.
            code=() if rules is None else (str(rules).partition(":")[0],),
            libraries=self.libraries,
            options=self.options,
            resumable=True,
            seconds_hint=60 if self.judge.kind == "endpoint" else 2,
        )
