"""Recipes: the options of `python -m sparsepo train` as a YAML file, read, merged and written.

A recipe is a flat mapping. Its keys are the command's long options (`model`, `eval_data`, …), the
method's hyper-parameters and the fields of POConfig. Options on the command line override it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from sparsepo.cli.options import key_values
from sparsepo.cli.yaml_core import dump, load
from sparsepo.errors import UserError, did_you_mean
from sparsepo.methods.base import MEANINGS
from sparsepo.registry import load_plugin, method_class

if TYPE_CHECKING:
    from sparsepo.training.config import POConfig

RECIPE_FILE = "recipe.yaml"
"""File with the effective configuration, saved with the trained model."""

REQUIRED = ("model", "data", "method", "output")
FURTHER_MODELS = ("ref_model", *MEANINGS)
"""Models besides the one that is trained; each may be left out."""
REWARDS = ("reward", "reward_model")
"""Where rewards come from, if the policy is trained on its own samples; each may be left out."""
_OPTIONAL = (*FURTHER_MODELS, *REWARDS)
_TEXTS = (*REQUIRED, "split", "eval_split", *_OPTIONAL)
_NOT_SETTINGS = {"output_dir": "output", "method_args": None}
"""Fields of POConfig that are set by another name, or one by one."""
_NOT_WRITTEN = ("gradient_checkpointing", "gradient_checkpointing_kwargs", "local_rank")
"""Deprecated names, which repeat the value of another field, and a field that launchers set."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training run, from recipe and command line."""

    model: str
    data: str
    method: str
    output: str
    split: str = "train"
    eval_data: str | Mapping[str, str] | None = None
    """A source of evaluation pairs, or several sources by name."""
    eval_split: str = "test"
    eval_share: float | None = None
    ref_model: str | None = None
    oracle: str | None = None
    anti: str | None = None
    history: str | None = None
    reward: str | None = None
    reward_model: str | None = None
    plugin: Sequence[str] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Hyper-parameters of the method and fields of POConfig."""

    def __post_init__(self) -> None:
        """Check types, because a recipe may contain values of any type.

        Raises:
            UserError: a value has the wrong type, or two options exclude each other.
        """
        for name in _TEXTS:
            value = getattr(self, name)
            if not isinstance(value, str) and not (name in _OPTIONAL and value is None):
                raise UserError(f"{name} must be text, not {value!r}.")
        if not isinstance(self.plugin, list | tuple) or not all(
            isinstance(file, str) for file in self.plugin
        ):
            raise UserError(f"plugin must be the path of a Python file, not {self.plugin!r}.")
        sources = self.eval_data.values() if isinstance(self.eval_data, Mapping) else []
        if not isinstance(self.eval_data, str | Mapping | None) or not all(
            isinstance(source, str) for source in sources
        ):
            raise UserError(
                "eval_data must be a file, a folder, a hub id, or a mapping from names to such "
                f"sources, not {self.eval_data!r}."
            )
        if self.eval_data is not None and self.eval_share is not None:
            raise UserError("eval_data and eval_share exclude each other; give only one of them.")
        if self.reward is not None and self.reward_model is not None:
            raise UserError("Give only one of reward and reward_model, which exclude each other.")
        if self.draws_samples and self.eval_share is not None:
            raise UserError(
                "eval_share holds out pairs, but training on samples reads only prompts; leave it "
                "out."
            )

    @property
    def draws_samples(self) -> bool:
        """Whether the policy is trained on its own samples rather than on given pairs."""
        return any(getattr(self, name) is not None for name in REWARDS)


OPTIONS = tuple(item.name for item in dataclasses.fields(TrainOptions) if item.name != "settings")


def collect_options(arguments: argparse.Namespace) -> TrainOptions:
    """Return the options of a recipe, overridden by those of the command line.

    Plug-ins are loaded too, because they may define the method and its hyper-parameters.

    Args:
        arguments: the parsed arguments; None if an option was not given.

    Raises:
        UserError: an option is missing, unknown or of the wrong type, or a plug-in is broken.
    """
    recipe: dict[str, Any] = {}
    if arguments.config is not None:
        recipe = read_recipe(Path(arguments.config))
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    if "eval_data" in given:
        given["eval_data"] = named_sources(given["eval_data"])
    # Each of these overrides the other.
    for name, other in (("eval_data", "eval_share"), ("eval_share", "eval_data")):
        if name in given and other not in given:
            recipe.pop(other, None)
    known = {name: value for name, value in recipe.items() if name in OPTIONS and value is not None}
    if isinstance(known.get("plugin"), str):
        known["plugin"] = [known["plugin"]]
    known |= given
    missing = [name for name in REQUIRED if name not in known]
    if missing:
        raise UserError(
            f"{' and '.join(f'--{name}' for name in missing)} must be given on the command line or "
            "in a recipe; see python -m sparsepo train --help."
        )
    settings = {name: value for name, value in recipe.items() if name not in OPTIONS}
    options = TrainOptions(**known)
    for plugin in options.plugin:
        load_plugin(plugin)
    changes = key_values(arguments.settings, "beta=0.1")
    check_names(settings, options, f"in {arguments.config}")
    check_names(changes, options)
    return dataclasses.replace(options, settings=settings | changes)


def read_recipe(file: Path) -> dict[str, Any]:
    """Return the content of a recipe; `eval-data` is the same key as `eval_data`.

    Raises:
        UserError: the file is missing, not YAML, not a mapping, or has a duplicate key.
    """
    try:
        content = load(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(
            f"The recipe {file} does not exist; give the path of a YAML file."
        ) from error
    except OSError as error:
        raise UserError(
            f"The recipe {file} cannot be read ({os.strerror(error.errno or 0)}); give the path "
            "of a YAML file."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"The recipe {file} is not UTF-8; convert it to UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}{_place_and_reason(error)}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{file} must contain a key and a value per line, such as 'method: dpo'.")
    recipe: dict[str, Any] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"The key {key!r} in {file} is not text; remove it.")
        name = key.replace("-", "_")
        if name in recipe:
            raise UserError(f"The key '{name}' occurs twice in {file}; remove one.")
        recipe[name] = value
    return recipe


def _place_and_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    reason = " ".join(str(reason).split()).rstrip(".")
    place = "" if mark is None else f", line {mark.line + 1}"
    if reason.endswith("twice"):
        return f"{place}: {reason}; remove one"
    return f"{place} is not valid YAML: {reason}"


def named_sources(texts: Sequence[str]) -> str | dict[str, str]:
    """Return the sources given by `--eval-data`: one source, or several by name.

    Args:
        texts: sources, or `NAME=SOURCE` items.

    Raises:
        UserError: several sources without names, or one name twice.
    """
    if len(texts) == 1 and (os.path.exists(texts[0]) or not _name_of(texts[0])):  # noqa: PTH110
        return texts[0]
    sources: dict[str, str] = {}
    for text in texts:
        name = _name_of(text)
        if not name:
            raise UserError(
                f"Several --eval-data options need names; write --eval-data NAME={text}."
            )
        if name in sources:
            raise UserError(
                f"--eval-data uses the name '{name}' twice; give each source its own name."
            )
        sources[name] = text.partition("=")[2]
    return sources


def _name_of(text: str) -> str:
    name, equals, source = text.partition("=")
    return name if equals and source and name.isidentifier() else ""


def config_class(options: TrainOptions) -> type[POConfig]:
    """Return the class of a run's configuration."""
    from sparsepo.training.config import POConfig
    from sparsepo.training.rollout_config import RolloutConfig

    return RolloutConfig if options.draws_samples else POConfig


def check_names(settings: Mapping[str, Any], options: TrainOptions, where: str = "") -> None:
    """Raise a UserError unless each setting is a hyper-parameter or a field of the configuration.

    Args:
        settings: the settings by name.
        options: those of the run; the method may be a plug-in.
        where: the recipe that contains the settings; empty for `--set`.
    """
    method = options.method
    own = [field.name for field in dataclasses.fields(method_class(method))]
    if not settings:
        return

    fields = config_class(options).field_types()
    for name in settings:
        if not where and (name in OPTIONS or name in _NOT_SETTINGS):
            instead = _NOT_SETTINGS.get(name, name)
            remedy = f"use --{instead}" if instead else "set each hyper-parameter by its name"
            raise UserError(f"--set cannot set '{name}'; {remedy.replace('_', '-')}.")
        if name == "set" or name in _NOT_SETTINGS:
            instead = _NOT_SETTINGS.get(name)
            remedy = f"write {instead}" if instead else "write each setting as a key of its own"
            raise UserError(f"Unknown option '{name}' {where}; {remedy}, such as beta: 0.1.")
        if name not in fields and name not in own:
            hint = did_you_mean(name, [*own, *fields, *(OPTIONS if where else ())])
            place = f" {where}" if where else ""
            raise UserError(
                f"Unknown option '{name}'{place}.{hint} Method '{method}' uses "
                f"{', '.join(own) or 'none'}; any field of POConfig may be set too."
            )


def config_arguments(options: TrainOptions) -> dict[str, Any]:
    """Return the settings as keyword arguments of the configuration.

    Hyper-parameters that are not fields of it are passed in method_args. Text that contains a
    number, such as `"1e-6"`, is converted for settings that accept only numbers.
    """
    config = config_class(options)
    fields = config.field_types()
    hints = typing.get_type_hints(method_class(options.method))
    hints |= typing.get_type_hints(config)
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in options.settings.items():
        value = _as_number(value) if _is_numeric(hints[name]) else value
        (arguments if name in fields else extra)[name] = value
    if extra:
        arguments["method_args"] = extra
    return arguments


def _is_numeric(hint: Any) -> bool:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = set(typing.get_args(hint)) if union else {hint}
    kinds = {kind for kind in kinds if typing.get_origin(kind) is not Literal}
    return bool(kinds) and kinds <= {int, float, type(None)}


def _as_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value


def recipe_text(options: TrainOptions, config: POConfig) -> str:
    """Return the effective configuration as a recipe that repeats the run.

    All values are written, including defaults, except hyper-parameters that the method does not
    use. Local paths are absolute. Access tokens are left out.

    Args:
        options: the options of the run.
        config: the resulting configuration.
    """
    from sparsepo import __version__
    from sparsepo.training.config import own_hyper_parameters

    method = dataclasses.asdict(config.make_method())
    asked = {name: getattr(options, name) for name in OPTIONS}
    for name in ("model", "data", "output", *FURTHER_MODELS, "reward_model"):
        asked[name] = _absolute(asked[name])
    if options.reward is not None:
        file, _, function = options.reward.rpartition(":")
        asked["reward"] = f"{_absolute(file)}:{function}"
    asked["plugin"] = [_absolute(file) for file in options.plugin]
    if isinstance(options.eval_data, Mapping):
        asked["eval_data"] = {name: _absolute(file) for name, file in options.eval_data.items()}
    else:
        asked["eval_data"] = _absolute(options.eval_data)
    left_out = {*asked, *_NOT_SETTINGS, *_NOT_WRITTEN, *own_hyper_parameters(type(config)), *method}
    training = {
        name: value
        for name, value in config.to_dict().items()
        if name not in left_out and not name.endswith("_token")
    }
    return (
        f"# The effective configuration of a run (sparsepo {__version__}). To repeat it:\n"
        f"# python -m sparsepo train --config {RECIPE_FILE} --output DIR\n"
        f"{dump(asked)}"
        f"\n# Hyper-parameters of {options.method}\n{dump(method) if method else ''}"
        f"\n# Training: fields of POConfig\n{dump(training)}"
    )


def _absolute(source: str | None) -> str | None:
    if source is None or not Path(source).exists():
        return source
    return str(Path(source).absolute())
