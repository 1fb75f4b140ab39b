"""The code experiments' stage graph.

world → base model → samples of the training problems → their verdicts → preference pairs → one run
per method and β → the β of each method → one run per method and seed → samples → verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from harness.config.methods import check_methods
from harness.config.profiles import FIRST_SEED, HUB, WORLD
from harness.domains.code.profile import TRAIN_FROM_SCRATCH, CodeProfile
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    GENERATION,
    Start,
    base_stage,
    existing_path,
    outside_start,
    reference_inputs,
    train_stage,
)
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.registry import available_methods

BASE = "base"
"""The row of the model that preference optimization starts from."""
BENCHMARKS = ("humaneval", "mbpp_test")
_TRAINING_SETS = ("mbpp_train", "mbpp_validation")
_TUNING_BENCHMARK = "humaneval"


@dataclass(frozen=True)
class System:
    """One model of a row, and the verdicts on what it wrote."""

    seed: int
    model: Stage | None
    """None for the starting model."""
    verdicts: Stage


@dataclass(frozen=True)
class Graph:
    """All stages of a table or figure."""

    pairs: Mapping[int, Stage] = field(default_factory=dict)
    """Training seed → its preference pairs."""
    runs: Mapping[str, Mapping[float, Stage]] = field(default_factory=dict)
    """Row id → β → the training run that tries it."""
    tuned: Mapping[str, Stage] = field(default_factory=dict)
    """Row id → the stage that chose its β; rows without a choice are absent."""
    systems: Mapping[str, tuple[System, ...]] = field(default_factory=dict)
    """Row id → one system per seed; empty for a figure."""

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the numbers can be computed."""
        stages = list(self.pairs.values())
        stages += [run for betas in self.runs.values() for run in betas.values()]
        stages += list(self.tuned.values())
        stages += [system.verdicts for systems in self.systems.values() for system in systems]
        return stages


def build_table(
    profile: CodeProfile, rows: Sequence[RowSpec], plugins: Mapping[str, Path] | None = None
) -> Graph:
    """Describe what Table 2 needs.

    Args:
        profile: all values.
        rows: those to be shown; the method "base" is the starting model.
        plugins: method → the file that it was loaded from with --plugin.

    Returns:
        The stages; nothing has been run.

    Raises:
        UserError: for a missing file, an unknown method, or a value that a method does not use.
    """
    parts = _Parts(profile, plugins or {})
    systems: dict[str, tuple[System, ...]] = {}
    runs: dict[str, dict[float, Stage]] = {}
    tuned: dict[str, Stage] = {}
    seeds = range(FIRST_SEED, FIRST_SEED + profile.seeds)
    for row in rows:
        if row.method == BASE:
            systems[row.id] = (System(FIRST_SEED, None, parts.test_verdicts(None)),)
            continue
        betas = parts.betas(row)
        if len(betas) > 1:
            runs[row.id] = parts.tuning_runs(row, betas)
            tuned[row.id] = parts.choice(row, runs[row.id])
        models = [parts.final_run(row, seed, tuned.get(row.id), betas) for seed in seeds]
        systems[row.id] = tuple(
            System(seed, model, parts.test_verdicts(model))
            for seed, model in zip(seeds, models, strict=True)
        )
    return Graph(parts.made_pairs, runs, tuned, systems)


def build_figure(profile: CodeProfile, row: RowSpec) -> Graph:
    """Describe what a figure of the tuning runs of one row needs.

    Args:
        profile: all values.
        row: whose runs.

    Returns:
        The stages, which are those of Table 2; nothing has been run.
    """
    parts = _Parts(profile, {})
    runs = {row.id: parts.tuning_runs(row, parts.betas(row))}
    return Graph(parts.made_pairs, runs)


class _Parts:
    """The stages that everything shares, and makers of the others."""

    def __init__(self, profile: CodeProfile, plugins: Mapping[str, Path]) -> None:
        check_methods(profile)
        self.profile = profile
        self.plugins = plugins
        self.world = Stage(
            "world",
            "harness.domains.code.work.world:make_world",
            asdict(profile.world) | {"mistake_shares": list(profile.world.mistake_shares)},
            seconds_hint=5,
        )
        self.start = self._start()
        self.made_pairs: dict[int, Stage] = {}
        self._caches: dict[int, dict[str, Stage]] = {}
        self._answers: dict[str, Path] = {}
        self._samples: dict[str, Stage] = {}
        if profile.data.answers is not None:
            self._answers = {"answers": existing_path("data.answers", profile.data.answers)}
        self.problems = self._problems()
        if self._answers:
            return
        samples = self._sample(
            "samples of the training problems",
            None,
            dict.fromkeys(_TRAINING_SETS, profile.sampling.train_samples),
        )
        verdicts = self._judge("verdicts on the training problems", samples, _TRAINING_SETS)
        self._samples = {"problems": self.problems, "samples": samples, "verdicts": verdicts}

    def betas(self, row: RowSpec) -> tuple[float, ...]:
        """Return the values of β that are tried; empty for a method without one."""
        tuning = self.profile.tuning
        names = {item.name for item in fields(available_methods()[row.method])}
        if "beta" not in names:
            return ()
        if "beta" in row.settings:
            return (float(row.settings["beta"]),)
        chosen = tuning.simpo_betas if row.method == "simpo" else tuning.betas
        # Runs are called by six digits of their β.
        names = {f"{beta:g}" for beta in chosen}
        if len(names) != len(chosen) or not all(beta > 0 for beta in chosen):
            raise UserError(f"The values of β must be above 0 and differ, not {chosen}.")
        return chosen

    def tuning_runs(self, row: RowSpec, betas: Sequence[float]) -> dict[float, Stage]:
        """Return one training run per β, all of the first seed."""
        return {
            beta: self._train(
                row,
                FIRST_SEED,
                {},
                overrides={"beta": beta},
                name=f"{row.id} with β {beta:g}",
            )
            for beta in betas
        }

    def choice(self, row: RowSpec, runs: Mapping[float, Stage]) -> Stage:
        """Return the stage that chooses a row's β."""
        tuning = self.profile.tuning
        verdicts = {}
        for beta, run in runs.items():
            samples = self._sample(
                f"tuning samples of {run.name}",
                run,
                {_TUNING_BENCHMARK: tuning.samples},
                tuning.problems,
            )
            verdicts[f"{beta:g}"] = self._judge(
                f"tuning verdicts on {run.name}", samples, (_TUNING_BENCHMARK,)
            )
        return Stage(
            f"choice of β for {row.id}",
            "harness.domains.code.work.tuning:choose_beta",
            {
                "k": tuning.samples,
                "benchmark": _TUNING_BENCHMARK,
                "default": self.profile.methods.get(row.method, {}).get("beta"),
            },
            verdicts,
            seconds_hint=1,
        )

    def final_run(
        self, row: RowSpec, seed: int, tuned: Stage | None, betas: Sequence[float]
    ) -> Stage:
        """Return the training run of a row and seed, with the β that was chosen."""
        overrides = {"beta": betas[0]} if len(betas) == 1 else {}
        return self._train(
            row,
            seed,
            {"tuned": tuned} if tuned is not None else {},
            overrides=overrides,
            name=f"{row.id} seed {seed}",
        )

    def test_verdicts(self, model: Stage | None) -> Stage:
        """Return the verdicts on a model's samples of both benchmarks."""
        name = model.name if model is not None else "the starting model"
        counts = dict.fromkeys(BENCHMARKS, self.profile.sampling.test_samples)
        samples = self._sample(f"samples of {name}", model, counts)
        return self._judge(f"verdicts on {name}", samples, BENCHMARKS)

    def _pairs(self, seed: int) -> Stage:
        if seed not in self.made_pairs:
            self.made_pairs[seed] = Stage(
                f"preference pairs seed {seed}",
                "harness.domains.code.work.pairs:make_pairs",
                {
                    "epochs": self.profile.data.epochs,
                    "seed": seed,
                    "validation_seed": FIRST_SEED,
                    "convention": self.profile.sampling.convention,
                },
                self._samples,
                self._answers,
                seconds_hint=2,
            )
        return self.made_pairs[seed]

    def _train(
        self,
        row: RowSpec,
        seed: int,
        inputs: Mapping[str, Stage],
        overrides: Mapping[str, float],
        name: str,
    ) -> Stage:
        settings = {**row.settings, **overrides}
        given = {"pairs": self._pairs(seed), **self.start.inputs}
        reference = reference_inputs(
            self.profile,
            row.method,
            given,
            self._caches.setdefault(seed, {}),
            settings,
            files=self.start.files,
            model_id=self.start.model_id,
            label=f" seed {seed}",
            owner=row.id,
        )
        plugin = self.plugins.get(row.method)
        files = {**self.start.files, **({"plugin": plugin} if plugin else {})}
        return train_stage(
            self.profile,
            row.method,
            seed,
            {**given, **reference, **inputs},
            files=files,
            model_id=self.start.model_id,
            overrides=settings,
            name=name,
        )

    def _sample(
        self, name: str, model: Stage | None, counts: Mapping[str, int], cap: int | None = None
    ) -> Stage:
        values = self.profile.sampling
        start = self.start if model is None else Start({"model": model})
        return Stage(
            name,
            "harness.domains.code.work.samples:sample",
            {
                "samples": dict(counts),
                "problems": cap,
                "convention": values.convention,
                "stop_early": values.stop_early,
                "temperature": values.temperature,
                "top_p": values.top_p,
                "max_new_tokens": values.max_new_tokens,
                "batch_size": values.batch_size,
                "seed": values.seed,
                "dtype": values.dtype,
                "device": self.profile.device,
                "model": start.model_id,
            },
            {"problems": self.problems, **start.inputs},
            start.files,
            libraries=GENERATION,
            seconds_hint=20 if cap is None else 1,
        )  # fmt: skip

    def _judge(self, name: str, samples: Stage, benchmarks: Sequence[str]) -> Stage:
        return Stage(
            name,
            "harness.domains.code.work.judge:judge_samples",
            {
                "benchmarks": list(benchmarks),
                "convention": self.profile.sampling.convention,
                "programs_at_once": self.profile.sampling.programs_at_once,
            },
            {"problems": self.problems, "samples": samples},
            seconds_hint=1 if name.startswith("tuning") else 5,
        )

    def _problems(self) -> Stage:
        sources: dict[str, str] = {}
        files: dict[str, Path] = {}
        for benchmark in ("humaneval", "mbpp"):
            source = getattr(self.profile.data, benchmark)
            if source not in (WORLD, HUB):
                files[benchmark] = existing_path(f"data.{benchmark}", source)
                source = "file"
            sources[benchmark] = source
        # Training problems are there to be sampled, unless the user has their solutions.
        sets = BENCHMARKS if self._answers else (*BENCHMARKS, *_TRAINING_SETS)
        return Stage(
            "problems",
            "harness.domains.code.work.problems:make_problems",
            {"sources": sources, "sets": list(sets), "limit": self.profile.sampling.limit},
            {"world": self.world} if WORLD in sources.values() else {},
            files,
            libraries=("datasets",) if HUB in sources.values() else (),
            seconds_hint=2,
        )

    def _start(self) -> Start:
        name = self.profile.model.code
        if name == TRAIN_FROM_SCRATCH:
            return Start({"model": base_stage(self.profile, self.world)})
        return outside_start("model.code", name)
