"""The model card: a README.md that describes a trained model, written by its trainer."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sparsepo.data.hub import is_hub_id
from sparsepo.data.pairs import ReadReport
from sparsepo.methods.base import Method
from sparsepo.methods.formula import formula, notation
from sparsepo.models.adapters import has_adapters
from sparsepo.training.citations import arxiv_number, bibtex
from sparsepo.training.evaluation import final_evaluation

if TYPE_CHECKING:
    from sparsepo.training.sharing import SharingTrainer

CARD_FILE = "README.md"
_TEMPLATE = Path(__file__).with_name("templates") / "model_card.md"
_PACKAGES = ("transformers", "torch", "accelerate", "peft", "tokenizers", "datasets")

_ALWAYS_SHOWN = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "optim",
    "weight_decay",
    "num_train_epochs",
    "max_length",
    "seed",
)
_NEVER_SHOWN = re.compile(
    r"method|method_args|output_dir|run_name|project|trackio_.*|hub_.*|.*push.*|report_to|logging_.*|log_.*"
    r"|save_.*|eval_.*|do_.*|disable_tqdm|reference_cache|token_masks|deepspeed|fsdp_config|resume_from_checkpoint"
    r"|dataloader_.*|use_cpu|local_rank|gradient_checkpointing.*|per_device_.*|.*_token|ddp_.*"
)
"""Output and reporting options, local paths, and values that the batch size already implies."""

_SPEED = re.compile(r"runtime$|_per_second$|_timing$")
"""Names of evaluation metrics that measure the machine and not the model."""


def model_card(
    trainer: SharingTrainer,
    *,
    model_name: str | None = None,
    dataset_name: str | Sequence[str] | None = None,
    tags: str | Sequence[str] | None = None,
    language: str | None = None,
    license: str | None = None,
    finetuned_from: str | None = None,
) -> ModelCard:
    """Return the card of a trainer's current model.

    Args:
        trainer: the trainer, after training or at a checkpoint.
        model_name: the title; default: the id on the hub, or the output folder's name.
        dataset_name: hub ids of the data; default: the data sets that were read from the hub.
        tags: added to the card's default tags.
        language: language codes for the metadata.
        license: license identifier for the metadata.
        finetuned_from: hub id of the base model; default: where the policy was loaded from.
    """
    from sparsepo import __version__

    method, config = trainer.method, trainer.args
    base = finetuned_from or str(trainer.policy.config.name_or_path or "")
    base_id = base if is_hub_id(base) else None
    # Only the folder's name: a published card should not reveal a local path.
    base_title = f"[{base_id}](https://huggingface.co/{base_id})" if base_id else ""
    if not base_id:
        base_title = f"`{Path(base).name}`" if base else "A model made in memory"
    sources = [report.source for report in trainer.read_reports.values()]
    datasets = _listed(dataset_name) or list(
        dict.fromkeys(name for name in sources if "/" in name and is_hub_id(name))
    )
    adapters = has_adapters(trainer.policy)
    name = model_name or trainer.hub_model_id or config.hub_model_id
    repository = name if name and "/" in name else trainer.hub_model_id or config.hub_model_id
    title = name or Path(str(config.output_dir)).absolute().name
    step, values = final_evaluation(config, trainer.state)
    results = _by_set(values, trainer.eval_dataset)
    metadata = ModelCardData(
        base_model=base_id,
        datasets=datasets or None,
        language=language,
        license=license,
        library_name="peft" if adapters else "transformers",
        pipeline_tag="text-generation",
        # The hub shows these results next to the model; they need a model's name.
        model_name=title if results else None,
        eval_results=_eval_results(results, trainer) or None,
        tags=list(
            dict.fromkeys(
                ["sparsepo", method.name, "preference-optimization", *_arxiv_tags(method)]
                + (["lora"] if adapters else [])
                + ["generated_from_trainer", *_listed(tags)]
            )
        ),
    )
    doc = inspect.cleandoc(type(method).__doc__ or "")
    # A dataclass without a docstring gets its signature as docstring.
    summary = "" if doc.startswith(f"{type(method).__name__}(") else doc.split("\n\n")[0]
    card: ModelCard = ModelCard.from_template(
        metadata,
        template_path=str(_TEMPLATE),
        title=title,
        base=base_title,
        base_in_licence=base_title if base else "the base model",
        loading=_loading(repository or "FOLDER", adapters),
        masks=bool(trainer._module.masks.state_dict()),
        method=method,
        summary=" ".join(summary.split()),
        formula=formula(type(method)),
        notation=notation(method.needs),
        data="\n".join(f"- {line}" for line in _data_lines(trainer)),
        hyper_parameters="\n".join(
            f"| `{name}` | {value} |" for name, value in _hyper_parameters(trainer).items()
        ),
        progress=_progress(trainer, step),
        results=_table(results),
        version=__version__,
        versions=", ".join(f"{package} {number}" for package, number in _versions().items()),
        citation="\n\n".join(f"```bibtex\n{entry}\n```" for entry in bibtex(method.source)),
    )
    return card


def reports_of(train_dataset: object, eval_dataset: object) -> dict[str, ReadReport]:
    """Return the reports on reading, for training data and evaluation sets that sparsepo read.

    Args:
        train_dataset: the trainer's argument.
        eval_dataset: the trainer's argument, which may be several sets by name.

    Returns:
        Reports by title, such as "Training" and "Evaluation (near)".
    """
    named = {"Training": train_dataset}
    if isinstance(eval_dataset, Mapping):
        named |= {f"Evaluation ({name})": part for name, part in eval_dataset.items()}
    else:
        named["Evaluation"] = eval_dataset
    reports = {title: getattr(data, "report", None) for title, data in named.items()}
    return {title: report for title, report in reports.items() if isinstance(report, ReadReport)}


def _data_lines(trainer: SharingTrainer) -> list[str]:
    pairs: Any = trainer.train_dataset
    lines = []
    for title, report in trainer.read_reports.items():
        source = report.source
        shown = source if is_hub_id(source) else Path(source).name
        lines.append(f"{title}: {dataclasses.replace(report, source=shown)}")
    if trainer.tokenizer_report is not None:
        lines.append(f"Training: {trainer.tokenizer_report}")
    if trainer.draws_samples:
        count = getattr(trainer.args, "samples_per_prompt", 0)
        lines.append(
            f"Trained on samples of the policy to {len(pairs)} prompts, {count} to a prompt each "
            "time, which a reward scored"
        )
    elif pairs is not None and hasattr(pairs, "__len__"):
        lines.append(f"Trained on {_counted(pairs)}")
    held_out: Any = trainer.eval_dataset
    sets = held_out if isinstance(held_out, Mapping) else {"": held_out}
    for name, part in sets.items():
        if part is not None and hasattr(part, "__len__"):
            lines.append(f"Evaluated on {_counted(part)}" + (f" ({name})" if name else ""))
    return lines or ["Unknown: no data was passed to the trainer"]


def _counted(pairs: Any) -> str:
    label = pairs[0].label if len(pairs) else None
    return f"{len(pairs)} {'pairs' if label is None else 'unpaired rows'}"


def _hyper_parameters(trainer: SharingTrainer) -> dict[str, Any]:
    config = trainer.args
    batch = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
    shown = {**dataclasses.asdict(trainer.method), "pairs in a step": batch}
    defaults = {item.name: item.default for item in dataclasses.fields(config) if item.init}
    for name, value in config.to_dict().items():
        if name in shown or _NEVER_SHOWN.fullmatch(name):
            continue
        default = defaults[name]
        same = value in (default, None) or (default is None and value is False)
        plain = isinstance(value, bool | int | float | str) and default is not dataclasses.MISSING
        if name in _ALWAYS_SHOWN or (plain and not same):
            shown[name] = value
    if config.max_steps > 0:
        del shown["num_train_epochs"]
    shown["dtype"] = str(trainer.policy.dtype).removeprefix("torch.")
    return {name: "not set" if value is None else value for name, value in shown.items()}


def _progress(trainer: SharingTrainer, evaluated: int | None) -> str:
    state = trainer.state
    losses = [entry["train_loss"] for entry in state.log_history if "train_loss" in entry]
    text = f"Trained for {state.global_step} steps"
    if state.epoch:
        text += f" ({state.epoch:.4g} epochs)"
    if losses:
        text += f"; mean training loss {losses[-1]:.4g}"
    if evaluated is not None:
        text += f". The evaluation below was made at step {evaluated}"
    return text + "."


def _by_set(values: Mapping[str, float], sets: Any) -> dict[str, dict[str, float]]:
    """Return metrics by evaluation set; a single unnamed set is "evaluation"."""
    names = list(sets) if isinstance(sets, Mapping) else []
    results: dict[str, dict[str, float]] = {}
    # The longest name that matches, because one set's name may be a prefix of another's.
    for key, value in values.items():
        metric = key.removeprefix("eval_")
        fitting = [name for name in names if metric.startswith(f"{name}_")]
        name = max(fitting, key=len, default="")
        metric = metric.removeprefix(f"{name}_") if name else metric
        results.setdefault(name or "evaluation", {})[metric] = value
    return results


def _eval_results(
    results: Mapping[str, Mapping[str, float]], trainer: SharingTrainer
) -> list[EvalResult]:
    """Return metrics as the entries of the metadata's model-index.

    Speeds and numbers that are not finite are left out: the first say nothing about the model, and
    the hub refuses the second.
    """
    held_out: Any = trainer.eval_dataset
    entries = []
    for name, metrics in results.items():
        title = "Evaluation" if not isinstance(held_out, Mapping) else f"Evaluation ({name})"
        report = trainer.read_reports.get(title)
        source = "" if report is None else report.source
        # Only the file's name: a published card should not reveal a local path.
        data = source if is_hub_id(source) else Path(source).name or name
        entries += [
            EvalResult(
                task_type="text-generation",
                dataset_type=data,
                dataset_name=data if name in ("evaluation", data) else f"{data} ({name})",
                # Results on the same data are merged unless this differs.
                dataset_config=name if isinstance(held_out, Mapping) else None,
                metric_type=metric,
                metric_value=value,
            )
            for metric, value in metrics.items()
            if not _SPEED.search(metric) and math.isfinite(value)
        ]
    return entries


def _table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of metrics by evaluation set, or "" without results."""
    if not results:
        return ""
    metrics = dict.fromkeys(metric for values in results.values() for metric in values)
    rows = [["", *results], ["---"] * (len(results) + 1)]
    rows += [
        [metric, *(f"{row[metric]:.4g}" if metric in row else "" for row in results.values())]
        for metric in metrics
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _loading(repository: str, adapters: bool) -> str:
    package, loader = ("transformers", "AutoModelForCausalLM")
    if adapters:
        package, loader = ("peft", "AutoPeftModelForCausalLM")
    imports = {package: [loader]}
    imports.setdefault("transformers", []).append("AutoTokenizer")
    lines = [f"from {name} import {', '.join(names)}" for name, names in imports.items()]
    return "\n".join(
        [
            *lines,
            "",
            f'model = {loader}.from_pretrained("{repository}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{repository}")',
        ]
    )


def _versions() -> dict[str, str]:
    from sparsepo import __version__

    versions = {"sparsepo": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**versions, "Python": platform.python_version()}


def _arxiv_tags(method: Method) -> Iterable[str]:
    number = arxiv_number(method.source)
    return [] if number is None else [f"arxiv:{number}"]


def _listed(value: str | Sequence[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
