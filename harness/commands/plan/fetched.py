"""The models and data that an experiment takes from the hub, and a file from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.commands.plan.facts import BENCHMARKS, DATA, MODELS
from harness.commands.plan.sizes import HUMANEVAL, MBPP
from harness.graph.stages import Stage

_NOT_ON_THE_HUB = ("vader", "minilm", "trained", "")
"""Names of models that are made or contained here."""


@dataclass(frozen=True)
class Fetched:
    """A repository on the hub."""

    name: str
    what: Literal["model", "data", "file"]
    cached: bool
    """Whether the hub's local cache has it."""
    parameters: int | None
    download: float | None
    """Bytes."""
    licence: str | None
    gated: bool | None

    def as_json(self) -> dict[str, Any]:
        """Return the fields; unknown ones are null."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


_CONV_WEIGHTS = Fetched("github.com/tingofurro/summac", "file", False, None, 2e3, None, False)
"""summac_conv_vitc_sent_perc_e.bin of SummaC's public repository; `metrics.conv_weights`."""


def fetched(stages: Iterable[Stage]) -> list[Fetched]:
    """Return what stages read from the hub, models first, each once, and SummaC's own weights.

    Args:
        stages: their configurations name the repositories.
    """
    models: dict[str, None] = {}
    data: dict[str, None] = {}
    conv = False
    for stage in stages:
        conv = conv or _downloads_conv_weights(stage)
        models |= dict.fromkeys(_models(stage.config))
        data |= dict.fromkeys(_data(stage.config))
    found = [*(_model(name) for name in models), *(_dataset(name) for name in data)]
    return [*found, _CONV_WEIGHTS] if conv else found


def _downloads_conv_weights(stage: Stage) -> bool:
    """Whether a stage takes SummaC-Conv's weights from its repository, which is not on the hub."""
    settings = stage.config.get("settings")
    wanted = isinstance(settings, Mapping) and settings.get("summac") == "conv"
    return wanted and "summac" in stage.config["metrics"] and "conv_weights" not in stage.files


def _models(config: Mapping[str, Any]) -> Iterator[str]:
    judge = config.get("judge")
    asked = isinstance(judge, Mapping) and judge["kind"] in ("reward", "instruct")
    named = [config.get(key) for key in ("model", "target", "encoder", "nli")]
    if isinstance(config.get("reward"), Mapping):
        named.append(config["reward"]["model"])
    if asked and isinstance(judge, Mapping):
        named.append(judge.get("model"))
    for name in named:
        if isinstance(name, str) and name not in _NOT_ON_THE_HUB:
            yield name


def _data(config: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(config.get("source"), str):
        yield config["source"]
    for source in (config.get("subsets") or {}).values():
        if source is not None:
            yield str(source)
    for name, source in (config.get("sources") or {}).items():
        if source == "hub":
            known = {"humaneval": HUMANEVAL, "mbpp": MBPP}
            yield known[name] if name in known else BENCHMARKS[name].source


def _model(name: str) -> Fetched:
    known = MODELS.get(name)
    if known is None:
        return Fetched(name, "model", _is_cached("models", name), None, None, None, None)
    return Fetched(
        name,
        "model",
        _is_cached("models", name),
        known.shape.parameters,
        known.download,
        known.licence,
        known.gated,
    )


def _dataset(name: str) -> Fetched:
    known = DATA.get(name)
    cached = _is_cached("datasets", name)
    if known is None:
        return Fetched(name, "data", cached, None, None, None, None)
    return Fetched(name, "data", cached, None, known.download, known.licence, known.gated)


def _is_cached(kind: str, name: str) -> bool:
    """Whether the hub's cache has a snapshot of a repository."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())
