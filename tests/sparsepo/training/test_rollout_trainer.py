"""RolloutTrainer: what it trains on, that splits do not matter, resuming, and bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification

from sparsepo import POConfig, POTrainer, RolloutConfig, RolloutTrainer, UserError
from sparsepo.methods import BUILT_IN
from sparsepo.methods.grpo import GRPO
from sparsepo.training.loading import last_checkpoint
from sparsepo.training.rewards import RewardModel, checked_rewards, load_reward
from sparsepo.training.rollouts import ROLLOUT_FILE
from tests.invariant.training import StopAt, assert_same_weights, history, state
from tests.small_models import small_model, small_tokenizer, text_pairs

PROMPTS = list(dict.fromkeys(str(pair.prompt) for pair in text_pairs(16)))
SAMPLED = ("f-dpg", "grpo", "ppo", "rto")


def letters(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """A reward without ties, nearly: a hash of the text."""
    del prompts
    return [sum(map(ord, response)) % 89 / 89 for response in responses]


def trainer_of(
    output: Path, method: str, *, reward: Any = letters, prompts: Any = PROMPTS, **settings: Any
) -> RolloutTrainer:
    names = ("callbacks", "eval_dataset", "optimizers")
    further = {key: settings.pop(key) for key in names if key in settings}
    model = settings.pop("model", None)
    for name in BUILT_IN[method].needs.models:
        if name != "history":
            further[name] = small_model("gpt2", seed=5)
    arguments: dict[str, Any] = {
        "output_dir": str(output), "method": method, "use_cpu": True, "report_to": "none",
        "per_device_train_batch_size": 4, "max_steps": 4, "learning_rate": 1e-3,
        "logging_steps": 1, "save_strategy": "no", "warmup_steps": 0, "disable_tqdm": True,
        "max_length": 64, "max_new_tokens": 8, "samples_per_prompt": 4, **settings,
    }  # fmt: skip
    return RolloutTrainer(
        small_model("gpt2") if model is None else model,
        reward,
        args=RolloutConfig(**arguments),
        train_dataset=prompts,
        processing_class=small_tokenizer(),
        **further,
    )


def logged(trainer: RolloutTrainer) -> list[dict[str, float]]:
    """Return the log without times."""
    return [
        {name: value for name, value in entry.items() if not name.startswith("seconds/")}
        for entry in history(trainer)
    ]


# What is trained on


@pytest.mark.parametrize(
    "method", ["dpo", "ipo", "simpo", "sparsepo-common", "odpo", "aot", "inpo"]
)
def test_methods_of_pairs_get_the_best_and_the_worst_sample(tmp_path: Path, method: str) -> None:
    trainer = trainer_of(tmp_path, method, max_steps=1)
    trainer.train()
    rollout = trainer._rollout
    assert rollout is not None
    assert len(rollout.pairs) == 4
    for own in rollout.pairs.values():
        (pair,) = own
        assert pair.scores is not None
        texts = small_tokenizer().batch_decode(
            [pair.chosen_ids, pair.rejected_ids], skip_special_tokens=True
        )
        assert list(pair.scores) == letters([], texts)
        assert pair.scores[0] > pair.scores[1]


@pytest.mark.parametrize("method", SAMPLED)
def test_methods_of_samples_get_all_of_them(tmp_path: Path, method: str) -> None:
    trainer = trainer_of(tmp_path, method, max_steps=1)
    trainer.train()
    rollout = trainer._rollout
    assert rollout is not None
    assert [len(own) for own in rollout.pairs.values()] == [2] * 4
    (entry, _) = logged(trainer)
    scores = [score for pair in rollout.all_pairs() for score in pair.scores or ()]
    assert entry["rollout/reward"] == pytest.approx(sum(scores) / 16)
    # The probabilities with which samples were drawn are those of the policy before the step.
    before = small_model("gpt2").eval()
    for pair in rollout.all_pairs():
        for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
            expected = logps_of(before, pair.prompt_ids, ids)
            torch.testing.assert_close(
                rollout.values["sampling_logps"][pair.pair_id][side], expected, rtol=0, atol=1e-5
            )


def logps_of(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0]
    logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    found: Tensor = logps.gather(-1, torch.tensor(response)[:, None])[:, 0]
    return found


def test_the_previous_policy_of_inpo_is_the_one_that_drew(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "inpo", max_steps=3, steps_per_rollout=2)
    states = []
    original = trainer._roll_out

    def watched(*args: Any) -> Any:
        states.append({k: v.clone() for k, v in trainer.policy.state_dict().items()})
        return original(*args)

    trainer._roll_out = watched  # type: ignore[method-assign]
    trainer.train()
    assert len(states) == 2  # Steps 0 and 1 share a rollout, and step 2 begins another.
    rollout = trainer._rollout
    assert rollout is not None and rollout.start == 2
    before = small_model("gpt2").eval()
    before.load_state_dict(states[1])
    for pair in rollout.all_pairs():
        expected = logps_of(before, pair.prompt_ids, pair.chosen_ids)
        own = rollout.values["history_logps"][pair.pair_id][0]
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


def test_one_step_of_online_dpo_is_dpo_on_the_same_pairs(tmp_path: Path) -> None:
    online = trainer_of(tmp_path / "online", "dpo", max_steps=1, optim="sgd", learning_rate=0.1)
    online.train()
    rollout = online._rollout
    assert rollout is not None
    drawn = rollout.all_pairs()
    # Tokens are taken as they are: text would be tokenized anew.
    offline = POTrainer(
        small_model("gpt2"),
        args=POConfig(
            output_dir=str(tmp_path / "offline"), method="dpo", use_cpu=True, report_to="none",
            per_device_train_batch_size=4, max_steps=1, learning_rate=0.1, warmup_steps=0,
            optim="sgd",
            save_strategy="no", disable_tqdm=True, max_length=64,
        ),
        train_dataset=text_pairs(4),
        processing_class=small_tokenizer(),
    )  # fmt: skip
    offline.train_dataset = drawn  # type: ignore[assignment]
    offline.train()
    assert_same_weights(state(online), state(offline), 1e-7)


def test_ties_do_not_count(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, "dpo", reward=lambda prompts, responses: [1.0] * len(responses), max_steps=2
    )
    before = state(trainer)
    trainer.train()
    assert_same_weights(state(trainer), before)
    assert [entry["rollout/ties"] for entry in logged(trainer)[:-1]] == [1.0, 1.0]


@pytest.mark.parametrize("method", ["dpo", "grpo", "f-dpg", "ppo"])
def test_training_raises_a_reward_that_can_be_learned(tmp_path: Path, method: str) -> None:
    """The reward of a response is the share of its tokens that are the most common letter."""

    def share(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
        del prompts
        return [response.count("e") / max(len(response), 1) for response in responses]

    trainer = trainer_of(
        tmp_path, method, reward=share, max_steps=30, learning_rate=5e-3, samples_per_prompt=8
    )
    trainer.train()
    rewards = [entry["rollout/reward"] for entry in logged(trainer)[:-1]]
    assert sum(rewards[-5:]) / 5 > 2 * sum(rewards[:5]) / 5


# Splits and interruptions


@pytest.mark.parametrize("method", ["dpo", *SAMPLED])
def test_splits_do_not_matter(tmp_path: Path, method: str) -> None:
    """Neither gradient accumulation nor the batch in which samples are drawn changes anything."""
    # Adam turns the last bits of a gradient near 0 into whole steps.
    run = {"optim": "sgd", "learning_rate": 0.01}
    whole = trainer_of(tmp_path / "whole", method, **run)
    whole.train()
    split = trainer_of(
        tmp_path / "split",
        method,
        **run,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        sampling_batch_size=3,
    )
    split.train()
    assert_same_weights(state(split), state(whole), 1e-6)
    assert [entry.get("rollout/reward") for entry in logged(split)] == pytest.approx(
        [entry.get("rollout/reward") for entry in logged(whole)]
    )


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("dpo", {}),
        ("inpo", {"steps_per_rollout": 3}),
        ("grpo", {"rollout_epochs": 3}),
        ("ppo", {"rollout_epochs": 3}),
        ("ppo", {"rollout_epochs": 2, "steps_per_rollout": 2}),
        ("rto", {"rollout_epochs": 2, "steps_per_rollout": 2}),
        ("f-dpg", {"steps_per_rollout": 4}),
        ("sparsepo-independent", {"steps_per_rollout": 3}),
    ],
    ids=lambda value: str(value),
)
def test_resumed_is_uninterrupted(tmp_path: Path, method: str, settings: dict[str, Any]) -> None:
    """Interrupted after step 5 with a checkpoint at step 4, which lies within the longer blocks."""
    run = {**settings, "max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    whole = trainer_of(tmp_path / "whole", method, **run)
    whole.train()
    broken = trainer_of(tmp_path / "broken", method, **run, callbacks=[StopAt(5)])
    with pytest.raises(InterruptedError):
        broken.train()
    torch.manual_seed(999)
    resumed = trainer_of(tmp_path / "broken", method, **run)
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(state(resumed), state(whole))
    assert logged(resumed)[:-1] == logged(whole)[:-1]


def test_a_checkpoint_at_the_end_of_a_rollout_does_not_hold_it(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, "grpo", rollout_epochs=2, max_steps=4, save_strategy="steps", save_steps=1
    )
    trainer.train()
    found = {
        folder.name: (folder / ROLLOUT_FILE).is_file() for folder in tmp_path.glob("checkpoint-*")
    }
    assert found == {
        "checkpoint-1": True, "checkpoint-2": False, "checkpoint-3": True, "checkpoint-4": False
    }  # fmt: skip


def test_a_damaged_rollout_is_one_plain_sentence(tmp_path: Path) -> None:
    run = {"rollout_epochs": 2, "max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    trainer_of(tmp_path, "grpo", **run).train()
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    (Path(checkpoint) / ROLLOUT_FILE).write_text('{"start": 2')
    with pytest.raises(UserError, match=r"rollout in .* is damaged; remove this checkpoint"):
        trainer_of(tmp_path, "grpo", **{**run, "max_steps": 4}).train(resume_from_checkpoint=True)


def test_hyper_parameters_of_any_method_are_arguments_of_the_configuration(tmp_path: Path) -> None:
    for settings in ({"scale": "none"}, {"method_args": {"scale": "none"}}):
        args = RolloutConfig(output_dir=str(tmp_path), method="grpo", use_cpu=True, **settings)  # type: ignore[arg-type]
        method = args.make_method()
        assert isinstance(method, GRPO) and method.scale == "none"
    with pytest.raises(TypeError, match="scales"):
        RolloutConfig(output_dir=str(tmp_path), method="grpo", scales="none")  # type: ignore[call-arg]


# Rewards


def test_a_reward_model_scores_prompt_and_response(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, num_labels=1,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = RewardModel(tmp_path, "cpu", batch_size=2)
    prompts, responses = ["one ", "two ", "three "], ["a", "bb", "a longer response"]
    together = model(prompts, responses)
    alone = [model([p], [r])[0] for p, r in zip(prompts, responses, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 3
    trainer = trainer_of(tmp_path / "out", "grpo", reward=model, max_steps=1)
    trainer.train()
    config.num_labels = 2
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "two")
    tokenizer.save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match="has 2 outputs; a reward model has one"):
        RewardModel(tmp_path / "two", "cpu")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1.0], "returned 1 values for 2 responses"),
        ([1.0, float("nan")], "returned nan for the response 'bb'"),
        ([float("inf"), 1.0], "returned inf for the response 'a'"),
        (["x", 1.0], "The reward function failed"),
        (None, "The reward function failed"),
    ],
)
def test_rewards_that_cannot_be_used(found: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked_rewards(lambda prompts, responses: found, ["p", "p"], ["a", "bb"])


def test_a_reward_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def length(prompts, responses):\n    return [len(r) for r in responses]\n")
    assert load_reward(f"{file}:length")(["p"], ["four"]) == [4]
    for text, message in (
        (str(file), "must be FILE.py:FUNCTION"),
        (f"{tmp_path / 'no.py'}:length", "No such file"),
        (f"{file}:lenght", "no function 'lenght'.*length"),
    ):
        with pytest.raises(UserError, match=message):
            load_reward(text)
    # A dataclass looks its module up while the file is being loaded.
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Length:\n    scale: float = 1.0\n"
        "    def __call__(self, prompts, responses):\n        return [len(r) for r in responses]\n"
        "length = Length()\n"
    )
    assert load_reward(f"{file}:length")(["p"], ["four"]) == [4]
    file.write_text("def length(:\n")
    with pytest.raises(UserError, match=r"cannot be loaded \(SyntaxError"):
        load_reward(f"{file}:length")


# Bad input


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("grpo", {"temperature": 0.7}, "only at temperature=1"),
        ("grpo", {"top_p": 0.9}, "only at temperature=1"),
        ("grpo", {"eval_dataset": text_pairs(2)}, "its samples alone; leave it out"),
        ("inpo", {"eval_dataset": text_pairs(2)}, "its samples alone; leave it out"),
        ("dpo", {"samples_per_prompt": 3}, "must be an even number, not 3"),
        ("dpo", {"steps_per_rollout": 0}, "steps_per_rollout must be at least 1, not 0"),
        ("dpo", {"temperature": 0.0}, "The temperature must be above 0"),
        ("dpo", {"top_p": float("nan")}, "top_p must be above 0"),
        ("dpo", {"reference_cache": "x"}, "new at every step; leave it out"),
        ("dpo", {"train_sampling_strategy": "group_by_length"}, "before they are drawn"),
        ("dpo", {"max_new_tokens": 64}, "leaves no room for a prompt"),
        ("dpo", {"prompts": PROMPTS[:3]}, "A step draws 4 prompts, and train_dataset has 3"),
        ("dpo", {"prompts": [{"text": "a"}]}, "no column 'prompt'"),
        ("dpo", {"prompts": [1, 2, 3, 4]}, "values of type int"),
        ("dpo", {"prompts": []}, "contains no rows"),
        ("dpo", {"prompts": PROMPTS[0]}, "train_dataset is of type str"),
        ("dpo", {"prompts": 5}, "train_dataset is of type int"),
        ("dpo", {"prompts": iter(PROMPTS)}, "is a stream"),
        ("dpo", {"reward": 3}, "The reward is of type int"),
        ("sft", {}, "samples are compared"),
        ("sppo-soft", {}, "needs the probability that chosen is preferred"),
        ("weighted-dpo", {}, "needs token_masks"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_go_with_samples(
    tmp_path: Path, method: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trainer_of(tmp_path, method, **settings)


def test_pairs_are_scored_by_methods_of_pairs_alone(tmp_path: Path) -> None:
    held_out = text_pairs(3, seed=5)
    trainer = trainer_of(tmp_path, "dpo", max_steps=2, eval_dataset=held_out)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    assert len(trainer.score_pairs(held_out)) == 3
    for method in ("inpo", "grpo"):
        other = trainer_of(tmp_path / method, method, max_steps=2, steps_per_rollout=2)
        with pytest.raises(UserError, match="cannot score other pairs"):
            other.score_pairs(held_out)
        other.train()
        with pytest.raises(UserError, match="cannot score other pairs"):
            other.score_pairs(held_out)


@pytest.mark.parametrize("method", SAMPLED)
def test_methods_of_samples_cannot_be_trained_on_pairs(tmp_path: Path, method: str) -> None:
    with pytest.raises(UserError, match="use RolloutTrainer, or give --reward"):
        POTrainer(
            small_model("gpt2"),
            args=POConfig(output_dir=str(tmp_path), method=method, use_cpu=True),
            train_dataset=text_pairs(4),
            processing_class=small_tokenizer(),
        )


def test_a_reward_that_fails_in_mid_run_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    calls = []

    def failing(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
        calls.append(len(responses))
        if len(calls) == 3:
            raise RuntimeError("the server is gone")
        return letters(prompts, responses)

    run = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    broken = trainer_of(tmp_path, "dpo", reward=failing, **run)
    with pytest.raises(UserError, match=r"failed \(RuntimeError: the server is gone"):
        broken.train()
    resumed = trainer_of(tmp_path, "dpo", **run)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_of(tmp_path / "whole", "dpo", **run)
    whole.train()
    assert_same_weights(state(resumed), state(whole))


def test_repeated_and_empty_prompts_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": text, "other": 1} for text in (*PROMPTS, PROMPTS[0])] + [{"prompt": None}]
    trainer = trainer_of(tmp_path, "dpo", prompts=rows, max_steps=1)
    assert len(trainer.train_dataset) == len(PROMPTS)  # type: ignore[arg-type]
    report = trainer.read_reports["Training"]
    assert dict(report.skipped) == {"prompt of an earlier row": 1, "missing prompt": 1}


def test_what_a_model_saves_is_a_plain_model(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "grpo", max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "config.json").is_file()
    assert not (tmp_path / "saved" / ROLLOUT_FILE).exists()
    assert load_file(tmp_path / "saved" / "model.safetensors")
    described = json.loads((tmp_path / "saved" / "method.json").read_text())
    assert described["method"] == "grpo"
    card = (tmp_path / "saved" / "README.md").read_text()
    assert f"samples of the policy to {len(PROMPTS)} prompts, 4 to a prompt" in card
