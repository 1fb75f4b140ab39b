"""The code experiments' stage graph, once per chain.

world → base model → samples of the training problems → their verdicts → preference pairs → one run
per method and β → the β of each method, whose run is kept → samples → verdicts. Chains share what
does not depend on their seed, such as problems from a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.config.chains import chains, first_chain
from harness.config.methods import check_methods
from harness.config.profiles import HUB, WORLD
from harness.config.search import Trial
from harness.domains.code.profile import TRAIN_FROM_SCRATCH, CodeProfile, pass_k
from harness.domains.common.generation import generation_parts
from harness.domains.common.rows import BASE
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    Start,
    base_stage,
    existing_path,
    outside_start,
    train_stage,
)
from harness.domains.common.tuning import (
    Search,
    as_trial,
    measuring_stage,
    search,
    searches_of,
    trial_name,
)
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from sparsepo.registry import available_methods

BENCHMARKS = ("humaneval", "mbpp_test")
_VALIDATION_SET = "mbpp_validation"
_TRAINING_SETS = ("mbpp_train", _VALIDATION_SET)
_TUNING_BENCHMARK = "humaneval"


@dataclass(frozen=True)
class System:
    """The model of a row in one chain, and the verdicts on what it wrote."""

    seed: int
    """The chain's."""
    model: Stage | None
    """None for the starting model."""
    verdicts: Stage
    tuned: Stage | None = None
    """The stage that chose β; None where there was nothing to choose."""
    search: Search | None = None
    """The trials of a tuned row."""


@dataclass(frozen=True)
class Graph:
    """All stages of a table or figure."""

    problems: tuple[Stage, ...]
    """The problems of each chain."""
    pairs: Mapping[int, Stage] = field(default_factory=dict)
    """Chain's seed → its preference pairs."""
    runs: Mapping[str, Mapping[float, Stage]] = field(default_factory=dict)
    """Row id → β → the training run that tries it, in the first chain."""
    systems: Mapping[str, tuple[System, ...]] = field(default_factory=dict)
    """Row id → one system per chain; empty for a figure."""

    @property
    def searches(self) -> dict[str, list[Search]]:
        """Tuned row → its trials in each chain."""
        return searches_of(self.systems)

    @property
    def targets(self) -> list[Stage]:
        """What has to be in the store before the numbers can be computed."""
        stages = [*self.problems, *self.pairs.values()]
        stages += [run for betas in self.runs.values() for run in betas.values()]
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
    check_methods(profile)
    built = [_Chain(chain, plugins or {}) for chain in chains(profile)]
    systems = {row.id: tuple(chain.system(row) for chain in built) for row in rows}
    # The starting model alone needs no pairs.
    trains = any(row.method != BASE.method for row in rows)
    pairs = {chain.profile.seed: chain.pairs for chain in built if trains}
    return Graph(tuple(chain.problems for chain in built), pairs, {}, systems)


def build_figure(profile: CodeProfile, row: RowSpec) -> Graph:
    """Describe what a figure of the tuning runs of one row needs.

    Args:
        profile: all values.
        row: whose runs.

    Returns:
        The stages, which are those of Table 2; nothing has been run.
    """
    check_methods(profile)
    chain = _Chain(first_chain(profile), {})
    runs = {row.id: chain.runs(row, chain.betas(row))}
    return Graph((chain.problems,), {chain.profile.seed: chain.pairs}, runs)


class _Chain:
    """The stages that one chain's rows share, and makers of the others."""

    def __init__(self, profile: CodeProfile, plugins: Mapping[str, Path]) -> None:
        self.profile = profile
        self.plugins = plugins
        self.label = f"seed {profile.seed}"
        self.world = Stage(
            f"world {self.label}",
            "harness.domains.code.work.world:make_world",
            asdict(profile.world) | {"mistake_shares": list(profile.world.mistake_shares)},
            seconds_hint=5,
        )
        self.start = self._start()
        self._caches: dict[str, Stage] = {}
        self._answers: dict[str, Path] = {}
        self._samples: dict[str, Stage] = {}
        if profile.data.answers is not None:
            self._answers = {"answers": existing_path("data.answers", profile.data.answers)}
        self.problems = self._training_problems = self._problems()
        if not self._answers:
            if profile.sampling.train_limit is not None:
                self._training_problems = self._problems(_TRAINING_SETS)
            samples = self._sample(
                f"samples of the training problems {self.label}",
                None,
                dict.fromkeys(_TRAINING_SETS, profile.sampling.train_samples),
            )
            verdicts = self._judge(
                f"verdicts on the training problems {self.label}", samples, _TRAINING_SETS
            )
            self._samples = {**verdicts.inputs, "verdicts": verdicts}
        self.pairs = self._pairs()

    def system(self, row: RowSpec) -> System:
        """Return a row's model in this chain, with the verdicts on its samples."""
        if row.method == BASE.method:
            return System(self.profile.seed, None, self._test_verdicts(None))
        if row.tuned:
            found = self._search(row)
            model = found.kept(f"{row.id} {self.label}")
            return System(self.profile.seed, model, self._test_verdicts(model), search=found)
        betas = self.betas(row)
        name = f"{row.id} {self.label}"
        if len(betas) < 2:
            overrides = {"beta": betas[0]} if betas else {}
            model = self._train(row, overrides, name)
            return System(self.profile.seed, model, self._test_verdicts(model))
        runs = self.runs(row, betas)
        tuned = self._choice(row, runs)
        model = Stage(
            name,
            "harness.domains.code.work.chosen:keep_chosen",
            {},
            {"tuned": tuned, **{f"{beta:g}": run for beta, run in runs.items()}},
            seconds_hint=1,
        )
        return System(self.profile.seed, model, self._test_verdicts(model), tuned)

    def _search(self, row: RowSpec) -> Search:
        """Return the trials of a tuned row.

        The first has the profile's own β, not the one that HumanEval chooses for the published row:
        no problem of the table may decide a tuned row.
        """

        def run(trial: Trial) -> Stage:
            name = trial_name(self.profile, row, trial)
            return as_trial(self._train(row, trial.settings, name))

        return search(self.profile, row, run, self._validate)

    def _validate(self, trial: Stage) -> Stage:
        """Return the stage that measures a trial on MBPP's validation problems."""
        tuning, k = self.profile.tuning, pass_k(self.profile.tuning.criterion)
        if tuning.validation_samples < k:
            raise UserError(
                f"tuning.validation_samples={tuning.validation_samples} are too few for "
                f"{tuning.criterion}; give at least {k}."
            )
        if tuning.kl_budget is not None:
            raise UserError(
                "tuning.kl_budget has no effect, because no KL of programs is measured; leave it "
                "out."
            )
        samples = self._sample("", trial, {_VALIDATION_SET: tuning.validation_samples})
        verdicts = self._judge("", samples, (_VALIDATION_SET,))
        problems = self._training_problems
        if _VALIDATION_SET not in problems.config["sets"]:
            problems = self._problems((_VALIDATION_SET,))
        return measuring_stage(
            "harness.domains.code.work.validation:measure_trial",
            trial,
            {"k": k, "sampling": samples.config, "judging": verdicts.config},
            {"problems": problems},
            libraries=samples.libraries,
            options=samples.options,
            resumable=True,
            seconds_hint=5,
        )

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

    def runs(self, row: RowSpec, betas: Sequence[float]) -> dict[float, Stage]:
        """Return one training run per β."""
        return {
            beta: self._train(row, {"beta": beta}, f"{row.id} with β {beta:g} {self.label}")
            for beta in betas
        }

    def _choice(self, row: RowSpec, runs: Mapping[float, Stage]) -> Stage:
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
            f"choice of β for {row.id} {self.label}",
            "harness.domains.code.work.tuning:choose_beta",
            {
                "k": tuning.samples,
                "benchmark": _TUNING_BENCHMARK,
                "default": self.profile.methods.get(row.method, {}).get("beta"),
            },
            verdicts,
            seconds_hint=1,
        )

    def _test_verdicts(self, model: Stage | None) -> Stage:
        """Return the verdicts on a model's samples of both benchmarks."""
        name = model.name if model is not None else f"the starting model {self.label}"
        counts = dict.fromkeys(BENCHMARKS, self.profile.sampling.test_samples)
        samples = self._sample(f"samples of {name}", model, counts)
        return self._judge(f"verdicts on {name}", samples, BENCHMARKS)

    def _pairs(self) -> Stage:
        seed = self.profile.seed
        return Stage(
            f"preference pairs {self.label}",
            "harness.domains.code.work.pairs:make_pairs",
            {
                "epochs": self.profile.data.epochs,
                "seed": seed,
                "validation_seed": seed,
                "convention": self.profile.sampling.convention,
            },
            self._samples,
            self._answers,
            seconds_hint=2,
        )

    def _train(self, row: RowSpec, overrides: Mapping[str, Any], name: str) -> Stage:
        return train_stage(
            self.profile,
            row,
            self.pairs,
            self.start,
            self._caches,
            plugin=self.plugins.get(row.method),
            overrides=overrides,
            name=name,
        )

    def _sample(
        self, name: str, model: Stage | None, counts: Mapping[str, int], cap: int | None = None
    ) -> Stage:
        values, generation = self.profile.sampling, generation_parts(self.profile)
        start = self.start if model is None else Start({"model": model})
        problems = self.problems if set(counts) <= set(BENCHMARKS) else self._training_problems
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
                "seed": values.seed,
                "dtype": values.dtype,
                "device": self.profile.device,
                "model": start.model_id,
                "generation": generation.config,
            },
            {"problems": problems, **start.inputs},
            start.files,
            libraries=generation.libraries,
            options=generation.options,
            resumable=True,
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
            {"problems": samples.inputs["problems"], "samples": samples},
            seconds_hint=1 if name.startswith("tuning") else 5,
        )

    def _problems(self, sets: tuple[str, ...] | None = None) -> Stage:
        """Return the stage that reads problems.

        Args:
            sets: some of MBPP's training sets; None for all that a published row needs, without
                training sets that have a cap of their own.
        """
        settings = self.profile.sampling
        sources: dict[str, str] = {}
        files: dict[str, Path] = {}
        for benchmark in ("humaneval", "mbpp"):
            source = getattr(self.profile.data, benchmark)
            if source not in (WORLD, HUB):
                files[benchmark] = existing_path(f"data.{benchmark}", source)
                source = "file"
            sources[benchmark] = source
        name, limit = "problems", settings.limit
        if sets is None:
            # Training problems are there to be sampled, unless the user has their solutions.
            apart = self._answers or settings.train_limit is not None
            sets = BENCHMARKS if apart else (*BENCHMARKS, *_TRAINING_SETS)
        else:
            name = "training problems" if sets == _TRAINING_SETS else "validation problems"
            limit = limit if settings.train_limit is None else settings.train_limit
        return Stage(
            name + (f" {self.label}" if WORLD in sources.values() else ""),
            "harness.domains.code.work.problems:make_problems",
            {"sources": sources, "sets": list(sets), "limit": limit},
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
