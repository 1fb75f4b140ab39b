"""`python -m sparsepo inspect`: a page with token maps of trained models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsepo.cli.options import key_values
from sparsepo.errors import UserError, did_you_mean
from sparsepo.registry import get_method, load_plugin, method_class

if TYPE_CHECKING:
    from sparsepo.analysis.maps import ModelMaps
    from sparsepo.methods.base import Method
    from sparsepo.types import PreferencePair

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("auto", "eager", "sdpa", "flex_attention")
LONG_RESPONSES = ("skip", "truncate", "error")
MASKS_SUFFIX = ".jsonl"
"""Suffix of an output of masks."""
SHOWN_PAIRS = 20
TYPED = "the pair that was typed"
"""Pair id of a pair given on the command line."""


@dataclass(frozen=True)
class InspectSettings:
    """The settings that `--set` accepts; the names are those of POConfig."""

    max_length: int = 1024
    max_prompt_length: int | None = None
    on_long_response: str = "skip"
    model_dtype: str = "auto"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    attention: str = "auto"
    use_cpu: bool = False
    per_device_eval_batch_size: int = 8
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            UserError: a value has the wrong type or is out of range.
        """
        sizes = ("max_length", "max_prompt_length", "per_device_eval_batch_size", "chunk_size")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in sizes:
                fits = value is None and item.default is None
                fits = fits or (type(value) is int and value >= 1)
                wanted = "a whole number of at least 1"
            elif isinstance(item.default, bool):
                fits, wanted = isinstance(value, bool), "true or false"
            else:
                choices = {"model_dtype": DTYPES, "attention": ATTENTIONS}
                known = choices.get(item.name, LONG_RESPONSES)
                fits, wanted = value in known, f"one of {', '.join(known)}"
            if not fits:
                raise UserError(f"{item.name} must be {wanted}, not {value!r}.")
        if self.load_in_4bit and self.load_in_8bit:
            raise UserError("load_in_4bit and load_in_8bit exclude each other; choose one.")

    @property
    def bits(self) -> int | None:
        """4 or 8 if the model is quantized."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `python -m sparsepo`."""
    parser = commands.add_parser(
        "inspect",
        help="write token maps of trained models as a page",
        description="Write a self-contained page that shows, token by token, the "
        "log-probabilities, KL, masks and rewards of preference pairs under trained models.",
    )
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="DIR",
        help="folder of a trained model; repeat the option to compare several models",
    )
    parser.add_argument("--data", help="JSONL(.gz) or Parquet file, folder, or hub id of the pairs")
    parser.add_argument("--split", default="train", help="split of a folder or hub data set")
    parser.add_argument(
        "--pairs",
        type=int,
        metavar="N",
        help=f"only the first N pairs (default: {SHOWN_PAIRS}, and all for a .jsonl file)",
    )
    parser.add_argument("--prompt", help="instead of --data: the prompt of a single pair")
    parser.add_argument("--chosen", help="the chosen response to --prompt")
    parser.add_argument("--rejected", help="the rejected response to --prompt")
    parser.add_argument(
        "--chat", action="store_true", help="format --prompt and the responses as a chat"
    )
    parser.add_argument(
        "--out",
        help="output file: the page (.html), its values (.json), or the masks of one model for "
        "another training run's token_masks (.jsonl)",
    )
    parser.add_argument(
        "--reference",
        help="folder or hub id of the reference; default: the one recorded by training",
    )
    parser.add_argument(
        "--method", help="method of models trained elsewhere, whose folders do not record it"
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="settings such as max_length=512, on_long_response=truncate, model_dtype=float32 or "
        "use_cpu=true; with --method also its hyper-parameters",
    )
    parser.add_argument("--plugin", action="append", default=[], help="Python file with methods")
    parser.add_argument(
        "--points",
        metavar="MODEL",
        help="instead of writing a page: print which modules of a model the masks read",
    )


def inspect(arguments: argparse.Namespace, say: Callable[[object], None]) -> None:
    """Run `python -m sparsepo inspect`.

    Args:
        arguments: the parsed arguments.
        say: prints to standard error.

    Raises:
        UserError: anything the user can fix.
    """
    check_combination(arguments)
    if arguments.points is not None:
        from sparsepo.cli.points import show_points

        show_points(arguments.points)
        return
    for plugin in arguments.plugin:
        load_plugin(plugin)
    settings, method = parse_settings(arguments.settings, arguments.method)
    out = Path(arguments.out)
    check_out(out)
    if out.suffix == MASKS_SUFFIX and len(arguments.models) > 1:
        raise UserError(f"--out {out} holds the masks of one model; give --model once.")
    pairs = find_pairs(arguments, say)

    import torch
    import transformers

    from sparsepo.analysis.maps import document, token_maps
    from sparsepo.analysis.masks import masks_of
    from sparsepo.analysis.page import render_page
    from sparsepo.analysis.trained import load_trained
    from sparsepo.data.token_masks import token_masks_text

    transformers.utils.logging.disable_progress_bar()
    found: list[ModelMaps] = []
    for model in arguments.models:
        trained = load_trained(
            model,
            reference=arguments.reference,
            method=method,
            dtype=settings.model_dtype,
            bits=settings.bits,
            attention=settings.attention,  # type: ignore[arg-type]
            device=torch.device("cpu") if settings.use_cpu else None,
        )
        if trained.reference is None:
            say(f"{model}: no reference, so no log-ratios and no KL")
        result = token_maps(
            trained,
            pairs,
            max_length=settings.max_length,
            max_prompt_length=settings.max_prompt_length,
            on_long_response=settings.on_long_response,  # type: ignore[arg-type]
            batch_size=settings.per_device_eval_batch_size,
            chunk_size=settings.chunk_size,
        )
        say(f"{model}: {result.report}")
        found.append(result.maps)
    found = tell_temporary(found)
    if out.suffix == MASKS_SUFFIX:
        text = token_masks_text(masks_of(found[0]))
    elif out.suffix == ".json":
        text = json.dumps(document(found), ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = render_page(found)
    write_whole(out, text)
    say(f"Saved to {out}")


def check_combination(arguments: argparse.Namespace) -> None:
    """Raise a UserError unless the options are only --points, or --model and --out."""
    needed = {"--model": arguments.models, "--out": arguments.out}
    if arguments.points is None:
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise UserError(
                f"The following arguments are required: {', '.join(missing)}; see python -m "
                "sparsepo inspect --help."
            )
        return
    others = ("data", "prompt", "chosen", "rejected", "reference", "method")
    given = [name for name, value in needed.items() if value is not None]
    given += [f"--{name}" for name in others if getattr(arguments, name) is not None]
    given += [f"--{name}" for name in ("chat", "plugin") if getattr(arguments, name)]
    given += ["--set"] if arguments.settings else []
    if given:
        raise UserError(f"--points cannot be combined with other options; leave out {given[0]}.")


def parse_settings(
    items: Sequence[str], method: str | None
) -> tuple[InspectSettings, Method | None]:
    """Return `--set key=value` items as settings and, if one is named, the method.

    Args:
        items: the items, see `key_values`.
        method: the method whose hyper-parameters may be set; None if each folder names its method.

    Raises:
        UserError: an item has no "=", an unknown key or an invalid value.
    """
    known = [item.name for item in dataclasses.fields(InspectSettings)]
    own = [] if method is None else [f.name for f in dataclasses.fields(method_class(method))]
    values = key_values(items, "max_length=512")
    for key in values:
        if key not in known and key not in own:
            hint = did_you_mean(key, [*known, *own])
            raise UserError(
                f"Unknown option '{key}'.{hint} Known: {', '.join([*known, *own])}. "
                "Hyper-parameters are taken from training unless --method is given."
            )
    settings = InspectSettings(**{key: value for key, value in values.items() if key in known})
    if method is None:
        return settings, None
    return settings, get_method(
        method, **{key: value for key, value in values.items() if key in own}
    )


def find_pairs(
    arguments: argparse.Namespace, say: Callable[[object], None]
) -> list[PreferencePair]:
    """Return the pairs of `--data`, or the pair given on the command line.

    Raises:
        UserError: both or neither are given, the pair is incomplete or empty, or the data is
            unusable.
    """
    from sparsepo.data.pairs import read_pairs
    from sparsepo.types import PreferencePair

    typed = {name: getattr(arguments, name) for name in ("prompt", "chosen", "rejected")}
    given = [name for name, text in typed.items() if text is not None]
    limit = arguments.pairs
    if limit is None and Path(arguments.out).suffix != MASKS_SUFFIX:
        limit = SHOWN_PAIRS
    if limit is not None and limit < 1:
        raise UserError(f"--pairs must be at least 1, not {arguments.pairs}.")
    if arguments.data is not None:
        if given or arguments.chat:
            raise UserError(
                f"--{(given or ['chat'])[0]} is only for a pair without --data; leave out --data."
            )
        data = read_pairs(arguments.data, arguments.split)
        say(data.report)
        return data.pairs[:limit]
    missing = [name for name in typed if name not in given]
    if missing:
        asked = "--data, or --prompt, --chosen and --rejected" if len(missing) == 3 else None
        raise UserError(f"Give {asked or ' and '.join(f'--{name}' for name in missing)}.")
    for name in ("chosen", "rejected"):
        if not typed[name].strip():
            raise UserError(f"--{name} is empty; enter a response.")
    if typed["chosen"] == typed["rejected"]:
        raise UserError("--chosen and --rejected are the same; enter two different responses.")
    if not arguments.chat:
        return [PreferencePair(TYPED, **typed)]
    return [
        PreferencePair(
            TYPED,
            [{"role": "user", "content": typed["prompt"]}],
            [{"role": "assistant", "content": typed["chosen"]}],
            [{"role": "assistant", "content": typed["rejected"]}],
        )
    ]


def tell_temporary(maps: Sequence[ModelMaps]) -> list[ModelMaps]:
    """Return maps with unique labels: the model's name is appended to equal labels."""
    count = Counter(model.label for model in maps)
    return [
        model
        if count[model.label] == 1
        else dataclasses.replace(model, label=f"{model.label}, {model.model}")
        for model in maps
    ]


def check_out(out: Path) -> None:
    """Raise a UserError unless an output can be written there."""
    if out.suffix not in (".html", ".htm", ".json", MASKS_SUFFIX):
        raise UserError(
            f"--out {out} must end in .html (for the page), .json (for its values) or "
            f"{MASKS_SUFFIX} (for the masks)."
        )
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file in it.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f"Nothing can be written to {out.parent} ({os.strerror(error.errno or 0)}); choose "
            "another --out."
        ) from error


def write_whole(out: Path, text: str) -> None:
    """Write a file atomically: an interruption leaves either the new file or the previous one."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=out.parent, prefix=f".{out.name}-", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.close()
            # Temporary files are readable only by their owner; give the page the usual permissions.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(out)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
