"""The stage that trains a reward model for judging, on the pairs that policies are trained on."""

from __future__ import annotations

from dataclasses import asdict

from harness.domains.common.work.files import MODEL, read_pairs_file, write_json
from harness.graph.stages import StageContext
from tasks.judges.reward_train import train_reward_model
from tasks.judges.settings import RewardTraining


def train_judge(context: StageContext) -> None:
    """Write model/ (a reward model) and reward.json (its accuracy on held-out pairs).

    Configuration: `train` (RewardTraining's fields), `seed`, `device`. Inputs: "model", which
    training starts from, and "pairs".
    """
    pairs = context.inputs["pairs"]
    report = train_reward_model(
        context.inputs["model"] / MODEL,
        read_pairs_file(pairs / "train.jsonl"),
        read_pairs_file(pairs / "test.jsonl"),
        context.work / MODEL,
        RewardTraining(**context.config["train"]),
        seed=context.config["seed"],
        device=context.config["device"],
        progress=lambda done, total: context.progress(done, total, "steps"),
    )
    write_json(asdict(report), context.work / "reward.json")
