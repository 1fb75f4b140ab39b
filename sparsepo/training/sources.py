"""Sources of models: safetensors in a folder or hub repository, GGUF files, and adapters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sparsepo.errors import UserError, first_line
from sparsepo.models.adapters import is_quantized, prepare_quantized
from sparsepo.training.gguf import check_memory, check_whole, read_header, require_reader


def is_gguf(source: str | Path) -> bool:
    """Return whether a model's source is a GGUF file."""
    return str(source).endswith(".gguf")


def gguf_options(source: str | Path) -> tuple[str, dict[str, str]]:
    """Return the folder and options with which transformers reads a source.

    Args:
        source: folder, hub id or GGUF file.

    Raises:
        UserError: a GGUF file or the package that reads it is missing, or the file is cut short.
    """
    if not is_gguf(source):
        return str(source), {}
    path = Path(source)
    if not path.is_file():
        raise UserError(f"There is no file '{source}'; give a GGUF file that exists.")
    require_reader(source)
    check_whole(path)
    return str(path.parent), {"gguf_file": path.name}


def gguf_tokenizer(source: str | Path, options: Mapping[str, Any] | None = None) -> Any:
    """Return the tokenizer of a GGUF file.

    A file may name a BOS token and say that texts do not begin with it, as that of SmolLM2 does,
    whose BOS begins a turn of a chat. The tokenizer has none then.

    Args:
        source: the file.
        options: arguments of transformers' from_pretrained.

    Raises:
        UserError: the file or the package that reads it is missing, or the file is cut short.
        Exception: any error of transformers about files that it cannot read.
    """
    folder, gguf = gguf_options(source)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, **gguf, **(options or {}))
    if read_header(Path(source)).values.get("tokenizer.ggml.add_bos_token") is False:
        tokenizer.bos_token = None
    return tokenizer


def from_source(source: str | Path, options: dict[str, Any]) -> Any:
    """Return a source's causal language model, with its trainable adapters if it has any.

    Args:
        source: folder, hub id or GGUF file; a folder of adapters gives a PEFT model on the base
            model that it names.
        options: arguments of transformers' from_pretrained.

    Raises:
        UserError: weights are missing, or the adapters' base model is missing or does not fit.
        Exception: any error of transformers about files that it cannot read.
    """
    if not (Path(source) / "adapter_config.json").is_file():
        return _whole(source, options)
    base = PeftConfig.from_pretrained(str(source)).base_model_name_or_path
    if not base:
        raise UserError(
            f"The adapters in '{source}' do not name their base model; set base_model_name_or_path "
            "in adapter_config.json to its folder or hub id."
        )
    try:
        whole = _whole(base, options)
    except OSError as error:
        raise UserError(
            f"The adapters in '{source}' were trained on '{base}', which cannot be loaded; correct "
            f"base_model_name_or_path in adapter_config.json ({first_line(error)})."
        ) from error
    if is_quantized(whole):
        whole = prepare_quantized(whole)
    return _with_adapters(whole, source, str(base))


def _whole(source: str | Path, options: dict[str, Any]) -> PreTrainedModel:
    if is_gguf(source):
        return _from_gguf(source, options)
    return _complete(source, str(source), options)


def _complete(source: str | Path, folder: str, options: dict[str, Any]) -> PreTrainedModel:
    """Return the model that transformers reads from a folder or hub id.

    Raises:
        UserError: weights are missing, which transformers would initialise at random.
    """
    read: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    model: PreTrainedModel = read[0]
    missing = sorted(read[1]["missing_keys"])
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"The weights in '{source}' are incomplete: {missing[0]}{others} missing; download or "
            "save the model again."
        )
    return model


def _from_gguf(source: str | Path, options: dict[str, Any]) -> PreTrainedModel:
    """Return the model of a GGUF file as one that transformers can train and save like any other.

    The quantized weights are expanded. transformers keeps information about the file's layout in
    the model and refuses to save it, so the weights are copied to a new model.

    Raises:
        UserError: the model does not fit in memory, or is of an architecture that transformers does
            not read.
    """
    if "quantization_config" in options:
        raise UserError(
            f"'{source}' cannot be quantized again; leave load_in_4bit and load_in_8bit out."
        )
    folder, gguf = gguf_options(source)
    header = read_header(Path(source))
    check_memory(source, header, str(options.get("dtype", "auto")))
    # Newer versions of transformers keep the weights quantized unless told to expand them.
    expand = getattr(transformers, "GgufConfig", None)
    if expand is not None:
        options = {**options, "quantization_config": expand(dequantize=True)}
    try:
        read = _complete(source, folder, {**gguf, **options})
    except (ValueError, NotImplementedError) as error:
        if "architecture" not in str(error) and not isinstance(error, NotImplementedError):
            raise
        raise UserError(
            f"transformers cannot read the architecture '{header.architecture}' of '{source}' from "
            "a GGUF file; give a folder or hub id of the model instead "
            f"({first_line(error)})."
        ) from error
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=read.dtype, attn_implementation=read.config._attn_implementation
    )
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = read.generation_config
    fresh.config.name_or_path = str(Path(source).resolve())
    return fresh


def _with_adapters(model: PreTrainedModel, source: str | Path, base: str) -> PeftModel:
    """Return a model with the trainable adapters of a folder.

    Raises:
        UserError: they belong to another model. PEFT only warns if some are missing, and
            initialises those.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(model, str(source), is_trainable=True)
            fits = not any("missing adapter keys" in str(w.message) for w in said)
        except (RuntimeError, ValueError, KeyError):
            fits = False
    if not fits:
        raise UserError(
            f"The adapters in '{source}' do not fit their base model '{base}'; "
            "correct base_model_name_or_path in adapter_config.json."
        )
    return adapted
