"""The reward model of a stage."""

from __future__ import annotations

from harness.domains.sentiment.work.common import CLASSIFIER
from harness.graph.stages import StageContext
from tasks.sentiment.classifier import Classifier, TrainedReward
from tasks.sentiment.rewards import RewardModel, make_reward


def reward_of(context: StageContext) -> RewardModel:
    """Return the reward model of a stage; a folder is its file "reward"."""
    values = dict(context.config["reward"])
    if "classifier" in context.inputs:
        found = Classifier.load(context.inputs["classifier"] / CLASSIFIER)
        return TrainedReward(found, values["batch_size"], values["device"])
    if "reward" in context.files:
        values["model"] = str(context.files["reward"])
    return make_reward(**values)
