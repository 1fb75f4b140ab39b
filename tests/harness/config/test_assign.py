from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.assign import (
    apply_assignments,
    known_keys,
    open_mapping,
    set_unless_assigned,
)
from harness.config.request import RunRequest
from harness.domains.dialogue import DOMAIN
from harness.domains.dialogue.profile import PROFILES, DialogueProfile, LimitSettings
from sparsepo.errors import UserError


def change(*assignments: str) -> DialogueProfile:
    return apply_assignments(DOMAIN.get_profile("tiny"), assignments)


def test_values_are_set_with_their_types() -> None:
    profile = change(
        "data.hh_rlhf=some/file.jsonl",
        "evaluation.limit=5",
        "po.learning_rate=1e-3",
        "po.precision=bfloat16",
        "po.activation_checkpointing=true",
        "world.rows.bbh=12",
        "data.gpqa=none",
        "seeds=2",
    )
    assert profile.data.hh_rlhf == "some/file.jsonl"
    assert profile.evaluation.limit == 5
    assert profile.po.learning_rate == 1e-3
    assert profile.po.precision == "bfloat16"
    assert profile.po.activation_checkpointing is True
    assert profile.world.rows["bbh"] == 12
    assert profile.world.rows["musr"] == DOMAIN.get_profile("tiny").world.rows["musr"]
    assert profile.data.gpqa is None
    assert profile.seeds == 2
    assert DOMAIN.get_profile("tiny").seeds != 2


def test_methods_take_new_keys() -> None:
    profile = change("methods.dpo.beta=0.7", "methods.mine.gamma=x", "methods.sft.epochs=2")
    assert profile.methods["dpo"] == {**DOMAIN.get_profile("tiny").methods["dpo"], "beta": 0.7}
    assert profile.methods["mine"] == {"gamma": "x"}
    assert profile.methods["sft"]["epochs"] == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("po.learning_rat=1", r"Did you mean 'learning_rate'\?"),
        ("pro.epochs=1", r"Unknown key pro\.epochs\. Did you mean 'po'\?"),
        ("world.rows.bbj=1", r"Did you mean 'bbh'\?"),
        ("po.epochs=many", r"--set po\.epochs=many: this must be a finite number"),
        ("po.epochs=nan", "a finite number"),
        ("evaluation.limit=1.5", "an integer or none"),
        ("po.precision=float8", "one of float32, bfloat16"),
        ("po.activation_checkpointing=1", "true or false"),
        ("po=1", "group of settings"),
        ("world.rows=1", "group of settings"),
        ("po.epochs.x=1", "is a single value"),
        ("po.epochs", "--set takes key=value"),
        ("=1", "--set takes key=value"),
    ],
)
def test_mistakes_are_one_plain_line(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        change(assignment)
    assert "\n" not in str(caught.value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_as_it_was_written(value: float) -> None:
    found = change(f"po.learning_rate={value!r}").po.learning_rate
    assert math.copysign(1, found) == math.copysign(1, value)
    assert found == value


def test_every_known_key_can_be_set_to_its_own_value() -> None:
    profile = DOMAIN.get_profile("tiny")
    keys = known_keys(profile)
    assert "po.learning_rate" in keys
    assert "methods.dpo.beta" in keys
    for key in keys:
        value: object = profile
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        text = "none" if value is None else str(value)
        text = text.lower() if isinstance(value, bool) else text
        assert apply_assignments(profile, [f"{key}={text}"]) == profile, key


def test_open_mapping_keeps_other_methods() -> None:
    values = open_mapping({"a": {"x": 1}})
    assert apply_assignments({"m": values}, ["m.a.y=2"]) == {"m": {"a": {"x": 1, "y": 2}}}


def test_unknown_profile() -> None:
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        DOMAIN.get_profile("tinny")


def test_defaults_replace_nothing_that_the_user_set() -> None:
    profile = DOMAIN.get_profile("tiny")
    values = {"po.epochs": 7, "data.bbh": None, "evaluation.limits": LimitSettings(bbh=3)}
    changed = set_unless_assigned(profile, values, ["po.epochs=2"])
    assert (changed.po.epochs, changed.data.bbh) == (profile.po.epochs, None)
    assert changed.evaluation.limits.bbh == 3
    # A part that the user set keeps the whole group as it is.
    changed = set_unless_assigned(profile, values, ["evaluation.limits.gpqa=2", "po.epoch=1"])
    assert changed.evaluation.limits == profile.evaluation.limits
    assert changed.po.epochs == 7


def test_paper_profile_holds_the_papers_values() -> None:
    paper = DOMAIN.get_profile("paper")
    assert paper.model.dialogue == "EleutherAI/pythia-1.4b-deduped"
    assert paper.data.hh_rlhf == "Anthropic/hh-rlhf"
    assert (paper.sft.learning_rate, paper.sft.epochs, paper.sft.batch_size) == (1e-5, 1, 1024)
    assert (paper.po.learning_rate, paper.po.epochs, paper.po.batch_size) == (1e-6, 3, 128)
    assert (paper.po.max_length, paper.po.max_prompt_length) == (2048, 1024)
    assert (paper.po.scheduler, paper.po.warmup, paper.po.precision) == ("cosine", 0.1, "float32")
    assert paper.methods["sparsepo-common"] == {
        "beta": 0.1,
        "l1_reward": 1e-3,
        "l1_kl": 1e-3,
        "mask_weight_decay": 0.01,
        "mask_dropout": 0.01,
        "learning_rate": 5e-7,
        "mask_init": "paper",
        "mask_gradient": "exact",
        "mask_learning_rate": "policy",
        "l1_limit": "none",
    }
    assert paper.methods["sparsepo-independent"]["l1_kl"] == 0.0
    assert paper.methods["dpop"] == {"beta": 0.3, "lam": 50.0}
    assert paper.methods["simpo"] == {"beta": 2.0, "gamma": 1.0}
    assert paper.methods["tdpo2"] == {"beta": 0.1, "alpha": 0.5}


@pytest.mark.parametrize("name", list(PROFILES))
def test_profiles_name_every_built_in_method(name: str) -> None:
    from sparsepo.methods import PAPER

    assert set(DOMAIN.get_profile(name).methods) == set(PAPER)


def test_real_rows_are_capped_in_the_tiny_profile_only() -> None:
    real = ("data.hh_rlhf=x.jsonl", "data.bbh=y.jsonl")
    capped = DOMAIN.resolve_profile(RunRequest(assignments=real))
    assert capped.data.train_pairs is not None
    assert capped.data.test_pairs is not None
    assert capped.evaluation.limits.bbh is not None
    own = DOMAIN.resolve_profile(
        RunRequest(assignments=(*real, "data.train_pairs=none", "evaluation.limit=7"))
    )
    assert own.data.train_pairs is None
    assert own.evaluation.limit == 7
    assert own.evaluation.limits.bbh is None
    assert (
        DOMAIN.resolve_profile(RunRequest(profile="paper", assignments=real)).data.train_pairs
        is None
    )


@pytest.mark.parametrize("request_", [RunRequest(seeds=0), RunRequest(workers=0)])
def test_counts_must_be_positive(request_: RunRequest) -> None:
    with pytest.raises(UserError, match="at least 1"):
        DOMAIN.resolve_profile(request_)
