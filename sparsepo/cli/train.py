"""`python -m sparsepo train`: train a model on preference pairs."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsepo.cli.console import say
from sparsepo.cli.recipe import (
    FURTHER_MODELS,
    RECIPE_FILE,
    TrainOptions,
    collect_options,
    config_arguments,
    config_class,
    recipe_text,
)
from sparsepo.errors import UserError, first_line
from sparsepo.methods.base import MEANINGS
from sparsepo.registry import method_class

if TYPE_CHECKING:
    from sparsepo.data.pairs import PairData
    from sparsepo.data.prompts import PromptData
    from sparsepo.training.config import POConfig
    from sparsepo.training.rewards import Reward
    from sparsepo.training.trainer import POTrainer

LAST_FILES = ("config.json", "adapter_config.json")
"""Files whose presence marks a finished model or finished adapters."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `python -m sparsepo`."""
    train = commands.add_parser(
        "train",
        help="train a policy on preference pairs",
        description="Train a policy on preference pairs and save it as a plain Hugging Face model. "
        "After an interruption, run the same command again to resume from the last checkpoint.",
    )
    train.add_argument(
        "--config",
        metavar="FILE.yaml",
        help="recipe with any of these options and settings; command-line options override it",
    )
    train.add_argument("--model", help="folder, GGUF file or hub id of the initial model")
    train.add_argument(
        "--data",
        help="JSONL(.gz) or Parquet file, folder, or hub id of the pairs, or of prompts with a "
        "reward",
    )
    train.add_argument("--method", help="name of a method")
    train.add_argument("--output", help="folder for the trained model")
    train.add_argument("--split", help="split of a folder or hub data set; default: train")
    train.add_argument(
        "--eval-data",
        action="append",
        metavar="[NAME=]SOURCE",
        help="source of evaluation pairs, as for --data; several sources need names",
    )
    train.add_argument(
        "--eval-split", help="split of evaluation pairs in a folder or hub data set; default: test"
    )
    train.add_argument(
        "--eval-share",
        type=float,
        metavar="SHARE",
        help="instead of --eval-data: share of the pairs to hold out, such as 0.05",
    )
    train.add_argument(
        "--ref-model", help="folder, GGUF file or hub id of the reference; default: --model"
    )
    for name, meaning in MEANINGS.items():
        train.add_argument(
            f"--{name}", help=f"folder, GGUF file or hub id of {meaning}, for methods that read it"
        )
    train.add_argument(
        "--reward",
        metavar="FILE.py:FUNCTION",
        help="train on samples of the policy itself: a function of prompts and responses that "
        "returns a number for each response",
    )
    train.add_argument(
        "--reward-model",
        metavar="MODEL",
        help="the same with a reward model: folder or hub id of a classifier with one output",
    )
    train.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="hyper-parameters of the method and fields of POConfig, such as beta=0.1 "
        "learning_rate=5e-7 save_steps=100 lora_r=16",
    )
    train.add_argument("--plugin", action="append", help="Python file with methods")


def make_config(options: TrainOptions) -> POConfig:
    """Return the configuration of a training run.

    Raises:
        UserError: transformers or the method rejects a value.
    """
    from transformers.trainer_utils import IntervalStrategy

    defaults = {"report_to": "none", "save_total_limit": 1, "save_strategy": "steps"}
    arguments = {**defaults, **config_arguments(options)}
    try:
        make = config_class(options)
        config = make(output_dir=options.output, method=options.method, **arguments)
        config.make_method()
    except (ValueError, TypeError) as error:
        raise UserError(f"Invalid options: {first_line(error).rstrip('.')}.") from error
    if config.eval_strategy != "no" and options.eval_data is None and options.eval_share is None:
        strategy = IntervalStrategy(config.eval_strategy).value
        raise UserError(
            f"eval_strategy={strategy} needs evaluation pairs; give --eval-data FILE or "
            "--eval-share 0.05."
        )
    return config


@dataclass(frozen=True)
class RunData:
    """The training and evaluation data of a run."""

    training: PairData | PromptData
    evaluation: PairData | dict[str, PairData] | None


def read_data(options: TrainOptions) -> RunData:
    """Read the training pairs or prompts and the evaluation pairs, and report what was read.

    Raises:
        UserError: the data is unusable, or all evaluation pairs are training pairs.
    """
    from sparsepo.data.pairs import read_pairs
    from sparsepo.data.prompts import read_prompts
    from sparsepo.data.split import hold_out

    if options.draws_samples:
        prompts = read_prompts(options.data, options.split)
        say(prompts.report)
        return RunData(prompts, _evaluation(options, None))
    unpaired = method_class(options.method).unpaired
    data = read_pairs(options.data, options.split, unpaired=unpaired)
    say(data.report)
    if options.eval_share is not None:
        kept, held = hold_out(data, options.eval_share)
        say(f"{len(kept)} pairs to train on, {len(held)} held out for evaluation")
        return RunData(replace(data, pairs=kept), replace(data, pairs=held))
    return RunData(data, _evaluation(options, data))


def _evaluation(
    options: TrainOptions, training: PairData | None
) -> PairData | dict[str, PairData] | None:
    if options.eval_data is None:
        return None
    if isinstance(options.eval_data, str):
        return _read_evaluation(options.eval_data, options, training)
    return {
        name: _read_evaluation(source, options, training)
        for name, source in options.eval_data.items()
    }


def _read_evaluation(source: str, options: TrainOptions, training: PairData | None) -> PairData:
    from sparsepo.data.pairs import read_pairs
    from sparsepo.data.split import shared_pairs

    unpaired = method_class(options.method).unpaired
    data = read_pairs(source, options.eval_split, unpaired=unpaired)
    say(f"{data.report} (evaluation)")
    if training is None:
        return data
    shared = shared_pairs(data, training)
    if shared == len(data):
        raise UserError(
            f"Every evaluation pair of {source} is also a training pair; give held-out pairs, or "
            "use --eval-share to hold some out."
        )
    if shared:
        say(f"{shared} of {len(data)} evaluation pairs of {source} are also training pairs")
    return data


def train(arguments: argparse.Namespace) -> None:
    """Run `python -m sparsepo train`.

    Raises:
        UserError: anything the user can fix.
    """
    options = collect_options(arguments)
    method_class(options.method)

    import transformers

    from sparsepo.data.hub import require_model
    from sparsepo.training.evaluation import EvaluateLast
    from sparsepo.training.hub import push_folder
    from sparsepo.training.loading import from_pretrained_options, last_checkpoint, load_tokenizer
    from sparsepo.training.rollout_trainer import RolloutTrainer
    from sparsepo.training.sources import is_gguf
    from sparsepo.training.trainer import POTrainer

    # Only training shows a progress bar; loading and saving show none.
    transformers.utils.logging.disable_progress_bar()
    output = Path(options.output)
    config = make_config(options)
    if any((output / name).exists() for name in LAST_FILES):
        raise UserError(
            f"{output} already contains a trained model; choose another --output or remove it."
        )
    loading = from_pretrained_options(config)
    further = {name: getattr(options, name) for name in FURTHER_MODELS}
    for source in filter(None, (options.model, *further.values())):
        if not is_gguf(source):
            require_model(source, **loading)
    data = read_data(options)
    check_writable(output)
    shared: dict[str, Any] = {
        "args": config,
        "train_dataset": data.training,
        "eval_dataset": data.evaluation,
        "processing_class": load_tokenizer(options.model, loading),
        "callbacks": [EvaluateLast()] if data.evaluation else None,
        **further,
    }
    trainer: POTrainer
    if options.draws_samples:
        trainer = RolloutTrainer(options.model, reward_of(options, config), **shared)
    else:
        trainer = POTrainer(options.model, **shared)
        say(trainer.tokenizer_report)
    recipe = recipe_text(options, config)
    checkpoint = last_checkpoint(output)
    if checkpoint is not None:
        say(f"Resuming from {checkpoint}")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
        if data.evaluation:
            say_evaluation(trainer)
    finally:
        close_progress_bar(trainer)
    if config.merge_adapters:
        trainer.merge_adapters()
    save_whole(trainer, output, recipe)
    say(f"Saved to {output}")
    if config.push_to_hub:
        push_folder(trainer, output, "End of training")
        say(f"Pushed to {trainer.hub_model_id}")


def reward_of(options: TrainOptions, config: POConfig) -> Reward:
    """Return the reward that was asked for.

    Raises:
        UserError: there is no such file, function or model.
    """
    from sparsepo.training.rewards import RewardModel, load_reward

    if options.reward is not None:
        return load_reward(options.reward)
    assert options.reward_model is not None
    return RewardModel(options.reward_model, config.device)


def say_evaluation(trainer: POTrainer) -> None:
    """Print the metrics of the trained policy on the evaluation pairs."""
    from sparsepo.training.evaluation import final_evaluation

    step, values = final_evaluation(trainer.args, trainer.state)
    if step != trainer.state.global_step and not trainer.args.load_best_model_at_end:
        # Nothing was left to train, because the run was interrupted after its last step.
        values = trainer.evaluate()
    say("Evaluation: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def close_progress_bar(trainer: POTrainer) -> None:
    """Close the progress bar, because the next message must start on a new line."""
    for callback in trainer.callback_handler.callbacks:
        bar = getattr(callback, "training_bar", None)
        if bar is not None:
            bar.close()


def save_whole(trainer: POTrainer, output: Path, recipe: str) -> None:
    """Save model and recipe; an interruption leaves either everything or nothing that loads.

    Files are written to a temporary folder and moved into place one by one; the file that marks a
    finished model comes last. Every process takes part, because each may hold part of the weights.
    """
    from safetensors import SafetensorError

    staging = output / ".saving"
    if trainer.args.should_save:
        shutil.rmtree(staging, ignore_errors=True)
    try:
        trainer.save_model(str(staging), _internal_call=True)
    except SafetensorError as error:
        raise OSError(f"the model is incomplete: {error}") from error
    if trainer.args.should_save:
        (staging / RECIPE_FILE).write_text(recipe, encoding="utf-8")
        for file in sorted(staging.iterdir(), key=lambda file: file.name in LAST_FILES):
            file.replace(output / file.name)
        staging.rmdir()
    trainer.accelerator.wait_for_everyone()


def check_writable(output: Path) -> None:
    """Raise a UserError unless files can be written to the output folder."""
    probe = output / f".write-test-{os.environ.get('RANK', '0')}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"Nothing can be written to {output} ({os.strerror(error.errno or 0)}); choose another "
            "--output."
        ) from error
