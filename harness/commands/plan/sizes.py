"""How large models and preference pairs will be, before any of them is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.plan.cost_model import Shape
from harness.commands.plan.facts import (
    CHARACTERS,
    DATA,
    MBPP_VALIDATION,
    PAPER_PROMPTS,
    WORLDS,
)
from harness.commands.plan.model_sizes import (
    UnknownSizeError,
    base_shape,
    folder_shape,
    gguf_shape,
    hub_shape,
)
from harness.commands.plan.pair_files import pairs_of_file
from harness.commands.plan.problem_files import problems_of_file
from harness.domains.common.stages import CONVERT
from harness.graph.stages import Stage
from sparsepo.errors import UserError

MBPP, HUMANEVAL = "google-research-datasets/mbpp", "openai/openai_humaneval"


@dataclass(frozen=True)
class Pairs:
    """Preference pairs that a stage will make."""

    train: float
    validation: float
    test: float
    prompt: float
    """Mean tokens."""
    response: float
    """Mean tokens of one response."""


class Sizes:
    """Finds the sizes of stages' models and pairs; each set of pairs is looked at once."""

    def __init__(self) -> None:
        self._pairs: dict[str, Pairs] = {}

    def shape(self, stage: Stage) -> Shape:
        """Return the sizes of the model that a stage starts from.

        Raises:
            UnknownSizeError: they are neither in the plan's table nor on this machine.
        """
        if "model" in stage.inputs:
            return self.made(stage.inputs["model"])
        if "model" in stage.files:
            return folder_shape(stage.files["model"])
        return hub_shape(str(stage.config["model"]))

    def made(self, stage: Stage) -> Shape:
        """Return the sizes of the model that a stage makes."""
        name = short_name(stage)
        if name == "base:train_base":
            return base_shape(stage.config)
        if stage.function == CONVERT:
            return gguf_shape(stage.files["gguf0"])
        if name in ("keep:keep_trial", "chosen:keep_chosen"):
            runs = [one for key, one in stage.inputs.items() if key not in ("choice", "tuned")]
            return self.made(runs[0])
        return self.shape(stage)

    def pairs(self, stage: Stage) -> Pairs:
        """Return the pairs of a stage.

        Raises:
            UnknownSizeError: the number of rows is not known before they are read.
        """
        if stage.address not in self._pairs:
            self._pairs[stage.address] = self._read(stage)
        return self._pairs[stage.address]

    def _read(self, stage: Stage) -> Pairs:
        config, name = stage.config, short_name(stage)
        if name in ("flip:flip_pairs", "reverse:reverse_pairs"):
            return self.pairs(stage.inputs["pairs"])
        domain = stage.function.split(".")[2]
        if domain == "code":
            return _code_pairs(stage)
        if name == "preferences:rank_completions":
            samples = stage.inputs["samples"].config
            prompt = sum(samples["prefix_tokens"]) / 2
            train, length = samples["train_prompts"], drawn_length(stage, samples["new_tokens"])
            return Pairs(train, 0, config["test_pairs"], prompt, length)
        if "world" in stage.inputs:
            world, lengths = stage.inputs["world"].config, WORLDS[domain]
            train = world["sft_rows" if name.startswith("sft_pairs") else "train_pairs"]
            return Pairs(
                capped(train, config.get("train_pairs")),
                0,
                capped(world["test_pairs"], config.get("test_pairs")),
                lengths.prompt,
                lengths.response,
            )
        return _outside_pairs(stage)

    def posts(self, prompts: Stage) -> tuple[float, float]:
        """Return the number of posts to summarize and their mean tokens.

        A file is taken to have as many as are asked for, as long as the pairs' posts.

        Raises:
            UnknownSizeError: neither is known before they are read.
        """
        cap = prompts.config["prompts"]
        if "world" in prompts.inputs:
            count = capped(prompts.inputs["world"].config["test_prompts"], cap)
            return count, WORLDS["summarization"].prompt
        source = prompts.config["source"]
        if source is None:
            pairs = self.pairs(prompts.inputs["pairs"])
            if "prompts" not in prompts.files:
                return capped(pairs.test, cap), pairs.prompt
            if cap is not None:
                return cap, pairs.prompt
        known = DATA.get(str(source))
        if cap is None or known is None or known.prompt is None:
            raise UnknownSizeError(
                "the number and lengths of the posts are known when they are read"
            )
        return cap, known.prompt


def short_name(stage: Stage) -> str:
    """Return a stage's function without its packages, such as "train:train_policy"."""
    return stage.function.rpartition(".")[2]


def world_of(stage: Stage) -> str | None:
    """Return the domain of the embedded world that a stage depends on; None if on none."""
    if short_name(stage) == "world:make_world":
        return stage.function.split(".")[2]
    found = (world_of(one) for one in stage.inputs.values())
    return next((domain for domain in found if domain is not None), None)


def drawn_length(stage: Stage, longest: float) -> float:
    """Return the tokens of a sampled response: the world's mean, or elsewhere the longest.

    Args:
        stage: the stage that samples.
        longest: the most tokens that it draws.
    """
    domain = world_of(stage)
    return longest if domain is None else min(longest, WORLDS[domain].response)


def capped(count: float, cap: float | None) -> float:
    """Return a count, at most a cap."""
    return count if cap is None else min(count, cap)


def row_of(pairs: Pairs, limits: Mapping[str, Any], rejected: bool) -> tuple[float, float]:
    """Return the tokens of a packed pair, and of its responses.

    Args:
        pairs: their mean lengths.
        limits: `max_length` and `max_prompt_length`.
        rejected: whether the method reads rejected responses.
    """
    prompt = min(pairs.prompt, limits["max_prompt_length"])
    response = min(pairs.response, limits["max_length"] - prompt)
    responses = response * (2 if rejected else 1)
    return prompt + responses, responses


def ranked_pairs(stage: Stage) -> Stage:
    """Return the stage with the prompts of evaluations, which is behind flipped pairs."""
    while "pairs" in stage.inputs:
        stage = stage.inputs["pairs"]
    return stage


def problem_counts(stage: Stage) -> dict[str, float]:
    """Return the number of problems of each set that a stage reads.

    Raises:
        UnknownSizeError: they come from a file that cannot be read.
    """
    limit = stage.config["limit"]
    counts: dict[str, float] = {}
    for name in stage.config["sets"]:
        benchmark, _, split = name.partition("_")
        source = stage.config["sources"][benchmark]
        if source == "world":
            world = stage.inputs["world"].config
            found = world["humaneval_problems" if not split else f"mbpp_{split}"]
        elif source == "file":
            try:
                found = problems_of_file(stage.files[benchmark])[name]
            except UserError as error:
                raise UnknownSizeError(str(error)) from None
        else:
            data = DATA[MBPP if split else HUMANEVAL]
            found = {"train": data.train, "validation": MBPP_VALIDATION}.get(split, data.test)
        counts[name] = capped(float(found), limit)
    return counts


def prompt_of_code(problems: Stage) -> float:
    """Return the mean tokens of a problem's prompt."""
    if "world" in problems.inputs:
        return WORLDS["code"].prompt
    return DATA[MBPP].prompt or 0.0


def _code_pairs(stage: Stage) -> Pairs:
    if "problems" not in stage.inputs:
        raise UnknownSizeError("the authors' solutions are counted when they are read")
    problems = stage.inputs["problems"]
    sets, lengths, data = problem_counts(problems), WORLDS["code"], DATA[MBPP]
    embedded = "world" in problems.inputs
    kept = lengths.kept if embedded else PAPER_PROMPTS / (data.train or 1)
    return Pairs(
        stage.config["epochs"] * kept * sets["mbpp_train"],
        kept * sets["mbpp_validation"],
        0,
        lengths.prompt if embedded else data.prompt or 0.0,
        lengths.response if embedded else data.response or 0.0,
    )


def _outside_pairs(stage: Stage) -> Pairs:
    """Return the pairs of files and hub ids: rows of the table, or counted in the file."""
    config = stage.config
    named = config.get("subsets") or {"": config.get("source")}
    hub = [str(source) for source in named.values() if source is not None]
    found = [_of_hub(source, config) for source in hub]
    found += [_of_file(path, config) for path in stage.files.values()]
    train = sum(one.train for one in found)
    share = [one.train / train if train else 1 / len(found) for one in found]
    return Pairs(
        train,
        0,
        sum(one.test for one in found),
        sum(part * one.prompt for part, one in zip(share, found, strict=True)),
        sum(part * one.response for part, one in zip(share, found, strict=True)),
    )


def _caps(config: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the caps on training and test pairs, by either name."""
    train = config.get("train_pairs", config.get("train_prompts"))
    return train, config.get("test_pairs")


def _of_hub(source: str, config: Mapping[str, Any]) -> Pairs:
    data = DATA.get(source)
    train_cap, test_cap = _caps(config)
    if data is None or data.prompt is None or data.response is None:
        raise UnknownSizeError(f"the lengths of {source} are not known here")
    train = train_cap if data.train is None else capped(data.train, train_cap)
    test = test_cap if data.test is None else capped(data.test, test_cap)
    if train is None or test is None:
        raise UnknownSizeError(f"the rows of {source} are not known here")
    return Pairs(train, 0, test, data.prompt, data.response)


def _of_file(path: Path, config: Mapping[str, Any]) -> Pairs:
    """Return the pairs of a file; a row counts for either split."""
    train_cap, test_cap = _caps(config)
    found = pairs_of_file(path)
    if found is None:
        raise UnknownSizeError(f"the pairs of {path.name} are counted when they are read")
    return Pairs(
        capped(found.rows, train_cap),
        0,
        capped(found.rows, test_cap),
        found.prompt / CHARACTERS,
        found.response / CHARACTERS,
    )
