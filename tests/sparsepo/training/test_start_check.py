"""The check at the start: a model that packed rows get wrong is found, named and trained right."""

from __future__ import annotations

import logging
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sparsepo import POConfig, POTrainer, UserError
from sparsepo.analysis.maps import token_maps
from sparsepo.analysis.trained import TrainedModel
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.reference.online import Reference
from sparsepo.registry import get_method
from sparsepo.training.policy import PolicyWithMasks, make_masks
from sparsepo.training.probe_pairs import short_pairs
from sparsepo.training.start_check import START_CHECK
from tests.invariant.training import make_trainer
from tests.small_models import (
    CONTEXT,
    VOCABULARY,
    separate_logps,
    small_model,
    small_tokenizer,
    text_pairs,
    token_pairs,
)

WINDOW = 10


def with_body(change: Any) -> PreTrainedModel:
    """Return a Llama whose body is given other arguments than its caller gave."""
    model: Any = small_model("llama")
    own = type(model.model).forward

    def forward(body: Any, **kwargs: Any) -> Any:
        return own(body, **change(kwargs))

    # Bound, so that a copy of the model runs the copy's body.
    model.model.forward = MethodType(forward, model.model)
    return model  # type: ignore[no-any-return]


def lying_head() -> PreTrainedModel:
    """Looked at with a few numbers its head is a bare projection; on sentences it is not."""
    model: Any = small_model("llama")
    own = type(model).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = own(self, *args, **kwargs)
        if output.logits.shape[1] > 5:
            output.logits = output.logits * 0.5
        return output

    model.forward = MethodType(forward, model)
    return model  # type: ignore[no-any-return]


def unknown_head() -> PreTrainedModel:
    model: Any = small_model("llama")
    own = type(model).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = own(self, *args, **kwargs)
        output.logits = output.logits - 0.01 * output.logits.square()
        return output

    model.forward = MethodType(forward, model)
    return model  # type: ignore[no-any-return]


def own_window() -> PreTrainedModel:
    """Its local layers make their mask themselves, unless they are handed a finished one."""

    def windowed(kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if mask is None or mask.ndim == 2:
            rows, length = kwargs["input_ids"].shape
            place = torch.arange(length)
            distance = place[:, None] - place
            seen = (distance >= 0) & (distance < WINDOW)
            if mask is not None:
                seen = seen & mask[:, None, None].bool()
            allowed = torch.zeros(rows, 1, length, length)
            kwargs["attention_mask"] = allowed.masked_fill_(~seen, torch.finfo(torch.float32).min)
        return kwargs

    return with_body(windowed)


def own_positions() -> PreTrainedModel:
    return with_body(lambda kwargs: {**kwargs, "position_ids": None})


def refuses_masks() -> PreTrainedModel:
    def refuse(kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim == 4:
            raise ValueError("attention_mask should be of shape (batch, length)")
        return kwargs

    return with_body(refuse)


def running_state() -> PreTrainedModel:
    """Each token is moved by the mean of those before it in its row, whatever the mask says."""
    model: Any = small_model("llama")

    def carry(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        counts = torch.arange(1, output.shape[1] + 1)[None, :, None]
        return output + output.cumsum(1) / counts

    model.model.embed_tokens.register_forward_hook(carry)
    return model  # type: ignore[no-any-return]


WRONG = {
    "lying head": (lying_head, r"LlamaForCausalLM\) transforms its logits"),
    "unknown head": (unknown_head, r"LlamaForCausalLM\) transforms its logits"),
    "window": (own_window, "attends differently in packed rows"),
    "positions": (own_positions, "counts positions or distances along a packed row"),
    "mask": (refuses_masks, r"cannot run packed rows \(ValueError: attention_mask should be"),
    "state": (running_state, "attends differently in packed rows"),
}


def assert_the_trainer_says_what_the_model_says(trainer: POTrainer) -> None:
    """Summed log-probabilities of every response, against a run of the model by itself."""
    pairs = text_pairs(4, seed=5)
    tokenized = tokenize_pairs(pairs, small_tokenizer(), 64).pairs
    scores = trainer.score_pairs(pairs)
    trainer.policy.eval()
    for score, pair in zip(scores, tokenized, strict=True):
        with torch.no_grad():
            chosen = separate_logps(trainer.policy, pair.prompt_ids, pair.chosen_ids).sum()
            rejected = separate_logps(trainer.policy, pair.prompt_ids, pair.rejected_ids).sum()
        assert score.chosen_logps == pytest.approx(float(chosen), rel=1e-5)
        assert score.rejected_logps == pytest.approx(float(rejected), rel=1e-5)


@pytest.mark.parametrize("fault", WRONG)
def test_packed_stops_with_what_differs_and_what_to_do(tmp_path: Path, fault: str) -> None:
    make, sentence = WRONG[fault]
    with pytest.raises(UserError, match=sentence) as caught:
        make_trainer(tmp_path, "dpo", model=make(), computation="packed")
    assert str(caught.value).endswith("; set computation=plain, or auto.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("computation", ["auto", "plain"])
@pytest.mark.parametrize("fault", WRONG)
def test_auto_and_plain_train_it_right(
    tmp_path: Path, fault: str, computation: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, _ = WRONG[fault]
    trainer = make_trainer(tmp_path, "tdpo1", model=make(), computation=computation)
    assert_the_trainer_says_what_the_model_says(trainer)
    trainer.train()
    assert_the_trainer_says_what_the_model_says(trainer)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    told = [text for text in warnings if "instead (computation=plain)" in text]
    assert len(told) == (1 if computation == "auto" else 0)


def test_auto_learns_what_plain_learns(tmp_path: Path) -> None:
    losses = [
        [entry["loss"] for entry in trained.state.log_history if "loss" in entry]
        for computation in ("auto", "plain")
        for trained in [
            make_trainer(tmp_path, "dpo", model=own_positions(), computation=computation)
        ]
        if trained.train()
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_a_padding_that_moves_values_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither packed nor padded rows are right: every response gets a forward pass of its own."""

    def by_length(kwargs: Any) -> Any:
        positions = torch.arange(kwargs["input_ids"].shape[1])[None]
        return {**kwargs, "position_ids": positions * kwargs["input_ids"].shape[1]}

    trainer = make_trainer(tmp_path, "tdpo1", model=with_body(by_length))
    trainer.train()
    assert_the_trainer_says_what_the_model_says(trainer)
    assert "every response gets a separate forward pass" in caplog.text
    for method in ("mapo", "sparsepo-common"):
        with pytest.raises(UserError, match="reads its masks from padded rows; use a method"):
            make_trainer(tmp_path, method, model=with_body(by_length))


ARCHITECTURES: dict[str, tuple[dict[str, Any], str]] = {
    "gemma2": ({"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}, "packed"),
    "cohere": ({}, "packed"),
    "granite": ({"logits_scaling": 8.0}, "packed"),
    "modernbert-decoder": ({"local_attention": 8}, "packed"),
    "gpt_neo": (
        {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
        "plain",
    ),
    "bloom": ({}, "plain"),
    "rwkv": ({"attention_hidden_size": 32, "context_length": CONTEXT}, "plain"),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_with_their_own_head_window_or_state_are_right(
    tmp_path: Path, architecture: str
) -> None:
    changes, form = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **changes,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    trainer = make_trainer(tmp_path, "dpo", model=model)
    assert trainer.model.computation == form
    trainer.train()
    assert_the_trainer_says_what_the_model_says(trainer)


def test_the_reference_is_named_where_it_is_the_reference(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The reference .* counts positions or distances"):
        make_trainer(
            tmp_path,
            "dpo",
            model=small_model("llama"),
            ref_model=own_positions(),
            computation="packed",
        )


@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_accumulation_steps": 3}, {"computation": "plain"}, {"bf16": True}],
    ids=str,
)
def test_the_result_is_logged_once(tmp_path: Path, settings: dict[str, Any]) -> None:
    trainer = make_trainer(tmp_path, "tdpo1", num_train_epochs=3, **settings)
    trainer.train()
    found = [entry[START_CHECK] for entry in trainer.state.log_history if START_CHECK in entry]
    assert len(found) == 1
    assert 0 <= found[0] < (0.5 if settings.get("bf16") else 1e-4)


def test_a_cache_is_checked_before_it_is_written(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="counts positions or distances"):
        make_trainer(
            tmp_path,
            "dpo",
            model=own_positions(),
            reference_cache=str(cache),
            computation="packed",
        )
    assert not list(cache.rglob("*.safetensors"))


def test_a_cache_of_the_reference_implementation_has_its_values(tmp_path: Path) -> None:
    def losses(**settings: Any) -> list[float]:
        trainer = make_trainer(tmp_path, "dpo", model=own_positions(), **settings)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    cached = losses(reference_cache=str(tmp_path / "cache"))
    assert cached == pytest.approx(losses(), rel=1e-6)


def test_token_maps_are_computed_in_the_form_that_is_right() -> None:
    method = get_method("dpo")
    policy, reference = own_positions().eval(), own_positions().eval()
    module = PolicyWithMasks(policy, make_masks(method, reference))
    trained = TrainedModel(module, method, small_tokenizer(), Reference(reference), "lies")
    pairs = text_pairs(3)
    found = token_maps(trained, pairs).maps.pairs
    for pair, tokens in zip(found, tokenize_pairs(pairs, small_tokenizer(), 96).pairs, strict=True):
        with torch.no_grad():
            expected = separate_logps(policy, tokens.prompt_ids, tokens.rejected_ids)
        assert list(pair.rejected.policy_logps) == pytest.approx(expected.tolist(), rel=1e-4)


def test_scoring_alone_is_checked_too(tmp_path: Path) -> None:
    trainer = POTrainer(
        own_positions(),
        args=POConfig(
            output_dir=str(tmp_path), method="simpo", computation="packed", use_cpu=True,
            max_length=64, report_to="none",
        ),
        processing_class=small_tokenizer(),
    )  # fmt: skip
    with pytest.raises(UserError, match="counts positions or distances"):
        trainer.score_pairs(text_pairs(2))


def test_the_check_draws_no_random_numbers(tmp_path: Path) -> None:
    """Dropout of a whole run is the same whether two pairs are checked or twelve."""

    def curve(name: str, model: PreTrainedModel) -> list[float]:
        trainer = make_trainer(
            tmp_path / name, "sft", model=model, disable_dropout=False, optim="sgd"
        )
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    first = curve("first", small_model("gpt2", resid_pdrop=0.5))
    assert first == curve("second", small_model("gpt2", resid_pdrop=0.5))
    assert first != curve("third", small_model("gpt2", resid_pdrop=0.1))


def test_short_pairs_differ_in_length_and_share_nothing_but_tokens() -> None:
    pairs = token_pairs(30)
    short = short_pairs(pairs)
    assert len({pair.pair_id for pair in short}) == len(short) == 2
    lengths = [len(pair.prompt_ids) + len(pair.chosen_ids) for pair in short]
    assert len(set(lengths)) == 2
    alone = short_pairs(pairs[:1])
    assert len({pair.pair_id for pair in alone}) == 2


# Randomness in training mode


def test_noise_in_training_mode_is_named_for_what_it_is(tmp_path: Path) -> None:
    """Not the reference is another one: the policy draws random numbers that no option stops."""
    model: Any = small_model("llama")

    def jitter(module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * (1 + 0.3 * torch.rand_like(output)) if module.training else output

    model.model.embed_tokens.register_forward_hook(jitter)
    with pytest.raises(UserError, match=r"^The policy is random in training mode"):
        make_trainer(tmp_path, "dpo", model=model).train()


def test_another_computation_in_training_mode_is_named_too(tmp_path: Path) -> None:
    model: Any = small_model("llama")

    def double(module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * (2 if module.training else 1)

    model.model.layers[0].mlp.register_forward_hook(double)
    with pytest.raises(UserError, match="gives different results in training mode"):
        make_trainer(tmp_path, "dpo", model=model).train()


def test_dropout_that_is_left_on_is_named_too(tmp_path: Path) -> None:
    model = small_model("gpt2", resid_pdrop=0.5)
    with pytest.raises(UserError, match=r"random in training mode.*disable_dropout=true"):
        make_trainer(tmp_path, "dpo", model=model, disable_dropout=False).train()


def test_a_routers_noise_and_dropped_layers_are_switched_off(tmp_path: Path) -> None:
    changes = {"dropout": 0.5, "layerdrop": 0.5, "activation_dropout": 0.5}
    config = AutoConfig.for_model(
        "opt",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=CONTEXT,
        word_embed_proj_dim=32,
        **changes,
    )
    torch.manual_seed(0)
    trainer = make_trainer(tmp_path, "dpo", model=AutoModelForCausalLM.from_config(config))
    trainer.train()
    assert len([entry for entry in trainer.state.log_history if "loss" in entry]) == 3
