"""Token maps against a forward pass of each response by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sparsepo import POConfig, POTrainer, UserError, get_method, load_plugin
from sparsepo.analysis.contributions import PROBES, contributions_of
from sparsepo.analysis.maps import (
    NOT_FINITE,
    SCHEMA,
    ModelMaps,
    PairMap,
    ResponseMap,
    document,
    token_maps,
)
from sparsepo.analysis.quantities import QUANTITIES
from sparsepo.analysis.texts import token_texts
from sparsepo.analysis.trained import TrainedModel
from sparsepo.batches.pack import pack_pairs
from sparsepo.batches.tokenize import LONG_RESPONSE, tokenize_pairs
from sparsepo.methods import BUILT_IN, PAPER
from sparsepo.methods.base import Method, Needs
from sparsepo.reference.online import Reference
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.types import LossOutput, PreferencePair, TokenStats
from tests.small_models import (
    PAPER_ARCHITECTURES,
    living_masks,
    small_model,
    small_tokenizer,
    text_pairs,
)

REPOSITORY = Path(__file__).parents[3]
MASKED = ("mapo", "sparsepo-common", "sparsepo-independent")


def trained(
    method: Method, architecture: str = "gpt_neox", *, reference: bool = True, **changes: Any
) -> TrainedModel:
    """Return a policy that is not its reference, with masks that are neither dead nor full."""
    policy = small_model(architecture, seed=1, **changes)
    model = small_model(architecture, seed=0, **changes)
    masks = living_masks(method, model)
    return TrainedModel(
        PolicyWithMasks(policy, masks).eval(),
        method,
        small_tokenizer(),
        Reference(model) if reference else None,
        method.title,
    )


def maps_of(name: str, count: int = 3, **options: Any) -> ModelMaps:
    return token_maps(trained(get_method(name)), text_pairs(count), **options).maps


def both(pair: PairMap) -> tuple[ResponseMap, ResponseMap]:
    return pair.chosen, pair.rejected


def log_probs(
    model: PreTrainedModel, prompt: Sequence[int], ids: Sequence[int], **options: Any
) -> Any:
    """Run one response by itself; log-probabilities and states at the predicting positions."""
    output: Any = model(torch.tensor([[*prompt, *ids]]), **options)
    at = slice(len(prompt) - 1, len(prompt) + len(ids) - 1)
    states = [layer[0, at] for layer in output.hidden_states[1:]] if options else None
    return output.logits[0, at].double().log_softmax(-1), states


def close(values: Sequence[float] | None, expected: Tensor, tolerance: float = 2e-5) -> None:
    assert values is not None
    torch.testing.assert_close(
        torch.tensor(values, dtype=torch.float64), expected.double(), atol=tolerance, rtol=1e-4
    )


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("name", ["dpo", "mapo", "sparsepo-independent"])
def test_values_are_those_of_each_response_by_itself(architecture: str, name: str) -> None:
    method = get_method(name)
    subject = trained(method, architecture)
    assert subject.reference is not None
    pairs = text_pairs(3)
    maps = token_maps(subject, pairs).maps
    tokenized = tokenize_pairs(pairs, small_tokenizer(), 96).pairs
    assert [pair.pair_id for pair in maps.pairs] == [pair.pair_id for pair in pairs]
    for pair, tokens in zip(maps.pairs, tokenized, strict=True):
        batch = pack_pairs([tokens], share_prompt=False)
        plain = Reference(subject.reference.model, computation="plain")
        alone = plain.read(batch, method, method.needs)
        for side, response in enumerate(both(pair)):
            ids = (tokens.chosen_ids, tokens.rejected_ids)[side]
            assert response.token_ids == tuple(ids)
            with torch.no_grad():
                policy, _ = log_probs(subject.module.policy, tokens.prompt_ids, ids)
                ref, states = log_probs(
                    subject.reference.model, tokens.prompt_ids, ids, output_hidden_states=True
                )
            place = torch.tensor(ids)[:, None]
            ratio = (policy - ref).gather(1, place)[:, 0]
            kl = (ref.exp() * (ref - policy)).sum(-1)
            close(response.policy_logps, policy.gather(1, place)[:, 0])
            close(response.ref_logps, ref.gather(1, place)[:, 0])
            close(response.log_ratios, ratio)
            close(response.kl, kl)
            close(response.rewards, method.beta * ratio)  # type: ignore[attr-defined]
            if name == "sparsepo-independent":
                with torch.no_grad():
                    masks = [subject.module.masks[key](states) for key in ("reward", "kl")]
            elif name == "mapo":
                assert alone.activation_mask is not None
                masks = [alone.activation_mask[side, 0, : len(ids)]] * 2
            else:
                masks = [torch.ones(len(ids))] * 2
            close(response.reward_mask, masks[0])
            close(response.masked_rewards, 0.1 * masks[0] * ratio)
            if name == "dpo":
                assert response.kl_mask is None and response.masked_kl is None
            else:
                close(response.kl_mask, masks[1])
                close(response.masked_kl, 0.1 * masks[1] * kl)


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("name", MASKED[1:])
def test_masks_of_the_models_above_are_neither_dead_nor_full(name: str, architecture: str) -> None:
    """Else the comparison with the masks would hold for the wrong reason."""
    maps = token_maps(trained(get_method(name), architecture), text_pairs(3)).maps
    values = [v for pair in maps.pairs for r in both(pair) for v in r.reward_mask or ()]
    zeros = sum(value == 0 for value in values)
    assert 0 < zeros < 0.8 * len(values)


# Contributions

MAPPED = [name for name, cls in BUILT_IN.items() if not cls.needs.beyond_pairs]
NO_SUMS = ("f-dpo", "orpo", "simper", "alphapo", "confpo")
"""Methods whose implicit reward is no sum over tokens."""
SUMS = [name for name in MAPPED if name not in NO_SUMS]


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in MAPPED])
def test_what_only_training_gives_has_no_maps(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' .* no token maps"):
        maps_of(name)


@pytest.mark.parametrize("name", NO_SUMS)
def test_rewards_that_are_no_sums_have_no_contributions(name: str) -> None:
    for pair in maps_of(name, 3).pairs:
        assert pair.chosen.contributions is None


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("name", [*SUMS, "squared-margin"])
def test_contributions_sum_to_the_margin(name: str) -> None:
    if name == "squared-margin":
        load_plugin(REPOSITORY / "tests/plugin_pkg/sparsepo_squared/__init__.py")
    for pair in maps_of(name, 5).pairs:
        assert pair.chosen.contributions is not None and pair.rejected.contributions is not None
        chosen, rejected = sum(pair.chosen.contributions), sum(pair.rejected.contributions)
        assert math.isclose(chosen, pair.chosen.reward, rel_tol=1e-9)
        assert math.isclose(rejected, -pair.rejected.reward, rel_tol=1e-9)
        assert math.isclose(chosen + rejected, pair.margin, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("name", PAPER)
def test_a_contribution_is_the_tokens_term_of_the_implicit_reward(name: str) -> None:
    method: Any = get_method(name)
    for pair in maps_of(name).pairs:
        for sign, response in zip((1, -1), both(pair), strict=True):
            if name in ("sft", "simpo"):
                scale = getattr(method, "beta", 1.0) / len(response.tokens)
                terms = [scale * logp for logp in response.policy_logps]
            else:
                assert response.masked_rewards is not None
                added = response.masked_kl or (0.0,) * len(response.tokens)
                terms = [r + k for r, k in zip(response.masked_rewards, added, strict=True)]
            assert response.contributions == pytest.approx([sign * t for t in terms], rel=1e-9)


@pytest.mark.parametrize("name", ["dpo", "simpo", "tdpo2", *MASKED])
def test_rewards_and_losses_are_those_of_the_trainer(name: str, tmp_path: Path) -> None:
    config = POConfig(output_dir=str(tmp_path), method=name, use_cpu=True, report_to="none")
    start = small_model("gpt2")
    trainer = POTrainer(
        small_model("gpt2", seed=1),
        ref_model=start if BUILT_IN[name].needs.reference else None,
        args=config,
        train_dataset=text_pairs(4),
        processing_class=small_tokenizer(),
    )
    subject = TrainedModel(
        trainer.model.eval(),  # type: ignore[union-attr, arg-type]
        trainer.method,
        small_tokenizer(),
        Reference(start),
        name,
    )
    scores = trainer.score_pairs(text_pairs(5, seed=3))
    for pair, score in zip(
        token_maps(subject, text_pairs(5, seed=3)).maps.pairs, scores, strict=True
    ):
        assert pair.pair_id == score.pair_id
        assert pair.loss == pytest.approx(score.loss, rel=1e-4, abs=1e-5)
        assert pair.chosen.reward == pytest.approx(score.chosen_reward, rel=1e-4, abs=1e-5)
        assert pair.rejected.reward == pytest.approx(score.rejected_reward, rel=1e-4, abs=1e-5)


@dataclass(frozen=True)
class Product(Method):
    """Its reward is no sum over tokens."""

    name: ClassVar[str] = "product"
    title: ClassVar[str] = "Product"
    source: ClassVar[str] = "a test"
    needs: ClassVar[Needs] = Needs(ref_logps=False)

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        rewards = [stats.policy_logps.sum(-1).square() for stats in (chosen, rejected)]
        return LossOutput(rewards[0].mean(), rewards[0], rewards[0], rewards[1])


def test_a_reward_that_is_no_sum_has_no_contributions() -> None:
    maps = token_maps(trained(Product()), text_pairs(2)).maps
    for pair in maps.pairs:
        assert pair.chosen.contributions is None and pair.rejected.contributions is None
        assert pair.chosen.rewards is None and pair.chosen.kl is not None
    assert maps.beta is None


def test_responses_longer_than_one_call_of_the_method() -> None:
    torch.manual_seed(0)
    sides = []
    for size in (2 * PROBES + 3, 5):
        policy, ref = -torch.rand(2, 1, size, dtype=torch.float64)
        sides.append(TokenStats(policy, ref, None, torch.ones(1, size)))
    found = contributions_of(get_method("dpo", beta=0.5), *sides)
    assert found is not None
    for sign, stats, values in zip((1, -1), sides, found, strict=True):
        assert stats.ref_logps is not None
        expected = sign * 0.5 * (stats.policy_logps - stats.ref_logps)[0]
        torch.testing.assert_close(values, expected)


# What a method has not


@pytest.mark.parametrize("name", MAPPED)
def test_what_a_method_has_not_is_none(name: str) -> None:
    method = get_method(name)
    maps = maps_of(name)
    response = maps.pairs[0].chosen
    assert response.kl is not None and response.log_ratios is not None
    assert (response.rewards is not None) == method.needs.ref_logps
    assert (response.reward_mask is not None) == method.needs.ref_logps
    assert (response.kl_mask is not None) == method.needs.kl
    assert (response.masked_kl is not None) == method.needs.kl
    if method.needs.mask == "none":
        assert set(response.reward_mask or (1.0,)) == {1.0}
        assert set(response.kl_mask or (1.0,)) == {1.0}
    assert (maps.reward_sparsity is not None) == (name in MASKED)
    assert (maps.kl_sparsity is not None) == (name in MASKED)


@pytest.mark.parametrize("name", ["sft", "simpo"])
def test_without_a_reference_there_are_no_ratios(name: str) -> None:
    subject = trained(get_method(name), reference=False)
    response = token_maps(subject, text_pairs(1)).maps.pairs[0].chosen
    assert response.ref_logps is response.log_ratios is response.kl is None
    assert response.contributions is not None


def test_sparsity_is_the_share_of_exact_zeros() -> None:
    maps = maps_of("sparsepo-independent", 6)
    assert maps.reward_sparsity is not None and maps.kl_sparsity is not None
    for found, field in ((maps.reward_sparsity, "reward_mask"), (maps.kl_sparsity, "kl_mask")):
        for side in ("chosen", "rejected"):
            masks = [getattr(getattr(pair, side), field) for pair in maps.pairs]
            shares = [100 * sum(v == 0 for v in mask) / len(mask) for mask in masks]
            assert getattr(found, side) == pytest.approx(sum(shares) / len(shares))


# Batches, random masks


@pytest.mark.parametrize("name", ["dpo", "mapo", "sparsepo-common"])
def test_batches_move_nothing(name: str) -> None:
    one, many = maps_of(name, 5, batch_size=1), maps_of(name, 5, batch_size=8)
    for left, right in zip(one.pairs, many.pairs, strict=True):
        assert left.pair_id == right.pair_id
        for a, b in zip(both(left), both(right), strict=True):
            for field in ("policy_logps", "kl", "reward_mask", "contributions"):
                close(getattr(a, field), torch.tensor(getattr(b, field)))


def test_random_masks_are_the_same_again_and_leave_the_generator_alone() -> None:
    subject = trained(get_method("sparsepo-independent", mask_kind="random"))
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = token_maps(subject, text_pairs(3)).maps
    assert torch.equal(torch.rand(1), expected)
    assert first == token_maps(subject, text_pairs(3)).maps
    assert first != token_maps(subject, text_pairs(3), seed=7).maps


# Words


def test_texts_join_to_the_response() -> None:
    for pair, given in zip(maps_of("dpo").pairs, text_pairs(3), strict=True):
        assert pair.chosen.text == f"{given.chosen}<|endoftext|>"
        assert "".join(pair.rejected.tokens) == pair.rejected.text
        assert pair.prompt == f"<|endoftext|>{given.prompt}"


def byte_tokenizer() -> PreTrainedTokenizerBase:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_character_of_several_tokens_belongs_to_the_last_of_them() -> None:
    tokenizer = byte_tokenizer()
    ids: Any = tokenizer("aé€ 😀!")["input_ids"]
    assert token_texts(tokenizer, ids[:1], ids) == (
        "a", "", "é", "", "", "€", " ", "", "", "", "😀", "!",
    )  # fmt: skip
    assert token_texts(tokenizer, [], ids[:3]) == ("a", "", "é")
    cut = token_texts(tokenizer, ids[:1], ids[:2])
    assert len(cut) == 2 and cut[0] == "a" and cut[1] == "\N{REPLACEMENT CHARACTER}"


def test_a_space_that_decoding_a_token_alone_loses_is_there() -> None:
    words = {"▁the": 0, "▁cat": 1, "s": 2, "<unk>": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert wrapped.decode([1]) == "cat"
    assert token_texts(wrapped, [0], [1, 2, 0]) == (" cat", "s", " the")


# The JSON form


def test_the_json_form_is_the_maps() -> None:
    maps = [maps_of("dpo"), maps_of("sparsepo-independent")]
    read = json.loads(json.dumps(document(maps), allow_nan=False))
    assert read["schema"] == SCHEMA
    assert [model["label"] for model in read["models"]] == ["DPO", "SparsePO (independent)"]
    assert read["models"][0]["beta"] == 0.1
    assert read["models"][0]["hyper_parameters"] == {"beta": 0.1}
    for model, written in zip(maps, read["models"], strict=True):
        for pair, found in zip(model.pairs, written["pairs"], strict=True):
            assert found["margin"] == pair.margin
            for side in ("chosen", "rejected"):
                assert found[side] == json.loads(json.dumps(asdict(getattr(pair, side))))
                assert {quantity.field for quantity in QUANTITIES} <= set(found[side])


# What cannot be shown


def test_pairs_that_do_not_fit_are_counted() -> None:
    long = PreferencePair("long", "the", " cat" * 100, " mat")
    found = token_maps(trained(get_method("dpo")), [*text_pairs(2), long])
    assert [pair.pair_id for pair in found.maps.pairs] == ["pair-0", "pair-1"]
    assert found.maps.skipped == {LONG_RESPONSE: 1} == found.report.skipped
    with pytest.raises(UserError, match="longer than the context"):
        token_maps(trained(get_method("dpo")), [long])
    with pytest.raises(UserError, match="at least one"):
        token_maps(trained(get_method("dpo")), [])


def test_values_that_are_not_finite_are_counted() -> None:
    subject = trained(get_method("tdpo1"))
    ids: Any = small_tokenizer()("?")["input_ids"]
    with torch.no_grad():
        subject.module.policy.get_input_embeddings().weight[ids[0]] = math.nan
    bad = PreferencePair("bad", "the", " cat ? cat", " mat")
    maps = token_maps(subject, [bad, *text_pairs(2)]).maps
    assert [pair.pair_id for pair in maps.pairs] == ["pair-0", "pair-1"]
    assert maps.skipped == {NOT_FINITE: 1}
    with pytest.raises(UserError, match="no pair has finite values"):
        token_maps(subject, [bad])


def test_another_vocabulary_is_refused() -> None:
    subject = trained(get_method("dpo"))
    other = TrainedModel(
        subject.module,
        subject.method,
        subject.tokenizer,
        Reference(small_model("gpt_neox", vocab_size=170)),
        "DPO",
    )
    with pytest.raises(UserError, match="different vocabularies"):
        token_maps(other, text_pairs(1))
    small = trained(get_method("dpo"), vocab_size=20)
    with pytest.raises(UserError, match="the model's own tokenizer"):
        token_maps(small, text_pairs(1))


def test_a_policy_keeps_the_form_of_its_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in training, with another reference, whose form must stay that of the policy."""
    subject = trained(get_method("dpo"))
    assert subject.reference is not None
    seen: list[str] = []

    def fall_back(checked: Any, pairs: Any, form: str) -> None:
        seen.append(form)
        checked.compute_as("plain")

    monkeypatch.setattr("sparsepo.analysis.maps.check_start_of", fall_back)
    plain = token_maps(subject, text_pairs(3), max_length=64).maps
    assert seen == ["auto"]
    assert subject.module.computation == subject.reference.computation == "packed"
    packed = maps_of("dpo")
    for one, other in zip(plain.pairs, packed.pairs, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
