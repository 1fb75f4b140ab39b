"""`python -m sparsepo train`: train a model of one's own on preference pairs."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsepo.cli.console import say
from sparsepo.cli.options import key_values
from sparsepo.errors import UserError, did_you_mean, first_line
from sparsepo.registry import load_plugin, method_class

if TYPE_CHECKING:
    from sparsepo.training.trainer import POTrainer

LAST_FILES = ("config.json", "adapter_config.json")
"""The files by which a finished model, or finished adapters, are known."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `python -m sparsepo`."""
    train = commands.add_parser(
        "train",
        help="train a policy on preference pairs",
        description="Train a policy on preference pairs and save it as a plain Hugging Face model. "
        "Run the same command again after an interruption: it goes on from the last checkpoint.",
    )
    train.add_argument("--model", required=True, help="folder or hub id of the start model")
    train.add_argument(
        "--data", required=True, help="JSONL(.gz) or Parquet file, folder, or hub id of the pairs"
    )
    train.add_argument("--method", required=True, help="name of a method")
    train.add_argument("--output", required=True, help="folder for the trained model")
    train.add_argument("--split", default="train", help="split of a folder or hub data set")
    train.add_argument("--ref-model", help="folder or hub id of the reference; default: --model")
    train.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a hyper-parameter of the method or any field of POConfig, e.g. beta=0.1, "
        "learning_rate=5e-7, save_steps=100, lora_r=16",
    )
    train.add_argument("--plugin", action="append", default=[], help="Python file with methods")


def parse_settings(settings: Sequence[str], method: str) -> dict[str, Any]:
    """Return `--set key=value` items as keyword arguments of POConfig.

    Args:
        settings: the items; a value is read as JSON where it is JSON, as text otherwise.
        method: its hyper-parameters are accepted too, also a plug-in's.

    Returns:
        Field → value; hyper-parameters that are no fields of POConfig under method_args.

    Raises:
        UserError: no "=", a key that is neither a field nor a hyper-parameter of the method, or one
            that the command sets itself.
    """
    import dataclasses

    from sparsepo.training.config import POConfig

    fields = POConfig.field_types()
    own = [field.name for field in dataclasses.fields(method_class(method))]
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in key_values(settings, "beta=0.1").items():
        if key in ("method", "output_dir", "method_args"):
            raise UserError(f"--set cannot set '{key}'; use --method and --output.")
        if key not in fields and key not in own:
            hint = did_you_mean(key, [*own, *fields])
            raise UserError(
                f"Unknown option '{key}'.{hint} Method '{method}' uses {', '.join(own) or 'none'}; "
                "every field of POConfig may be set too."
            )
        (arguments if key in fields else extra)[key] = value
    if extra:
        arguments["method_args"] = extra
    return arguments


def make_config(output: Path, method: str, arguments: dict[str, Any]) -> Any:
    """Return the POConfig of a training run.

    Raises:
        UserError: a value that transformers or the method refuses.
    """
    from sparsepo.training.config import POConfig

    defaults = {"report_to": "none", "save_total_limit": 1, "save_strategy": "steps"}
    try:
        config = POConfig(output_dir=str(output), method=method, **{**defaults, **arguments})
    except (ValueError, TypeError) as error:
        raise UserError(f"These options do not fit: {first_line(error)}.") from error
    try:
        config.make_method()
    except TypeError as error:
        raise UserError(f"These options do not fit: {first_line(error)}.") from error
    return config


def train(arguments: argparse.Namespace) -> None:
    """Run `python -m sparsepo train`.

    Raises:
        UserError: anything the user can mend.
    """
    for plugin in arguments.plugin:
        load_plugin(plugin)
    method_class(arguments.method)
    settings = parse_settings(arguments.settings, arguments.method)

    import transformers

    from sparsepo.data.pairs import read_pairs
    from sparsepo.training.loading import last_checkpoint, load_tokenizer
    from sparsepo.training.trainer import POTrainer

    # One bar, the training's own; loading and saving show none.
    transformers.utils.logging.disable_progress_bar()
    output = Path(arguments.output)
    config = make_config(output, arguments.method, settings)
    if any((output / name).exists() for name in LAST_FILES):
        raise UserError(
            f"{output} already holds a trained model; choose another --output or remove it."
        )
    data = read_pairs(arguments.data, arguments.split)
    say(data.report)
    check_writable(output)
    trainer = POTrainer(
        arguments.model,
        ref_model=arguments.ref_model,
        args=config,
        train_dataset=data.pairs,
        processing_class=load_tokenizer(arguments.model),
    )
    say(trainer.tokenizer_report)
    checkpoint = last_checkpoint(output)
    if checkpoint is not None:
        say(f"Resuming from {checkpoint}")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        close_progress_bar(trainer)
    if config.merge_adapters:
        trainer.merge_adapters()
    save_whole(trainer, output)
    say(f"Saved to {output}")


def close_progress_bar(trainer: POTrainer) -> None:
    """End the bar's line, so that what is said next stands on a line of its own."""
    for callback in trainer.callback_handler.callbacks:
        bar = getattr(callback, "training_bar", None)
        if bar is not None:
            bar.close()


def save_whole(trainer: POTrainer, output: Path) -> None:
    """Save the model so that an interruption leaves either all of it or nothing that loads.

    Files are written apart and moved in place one by one; the one by which a finished model is
    known comes last. Every process takes part, since each may hold a part of the weights.
    """
    from safetensors import SafetensorError

    apart = output / ".saving"
    if trainer.args.should_save:
        shutil.rmtree(apart, ignore_errors=True)
    try:
        trainer.save_model(str(apart))
    except SafetensorError as error:
        raise OSError(f"the model is not complete: {error}") from error
    if trainer.args.should_save:
        for file in sorted(apart.iterdir(), key=lambda file: file.name in LAST_FILES):
            file.replace(output / file.name)
        apart.rmdir()
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
