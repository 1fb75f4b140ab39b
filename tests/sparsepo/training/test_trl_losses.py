"""Losses of whole batches, from text on, are those of TRL's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo import POConfig, POTrainer
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.methods import BUILT_IN
from sparsepo.types import PreferencePair
from tests.small_models import small_model, small_tokenizer, text_pairs

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

BETA = 0.3
PAIRS = 6
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": PAIRS, "per_device_eval_batch_size": PAIRS, "use_cpu": True,
    "report_to": "none", "max_length": 96, "disable_tqdm": True, "bf16": False,
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("sigmoid", {}, "dpo", {}),
    ("hinge", {}, "hinge", {}),
    ("ipo", {}, "ipo", {}),
    ("exo_pair", {"label_smoothing": 0.01}, "exo", {"epsilon": 0.01}),
    ("nca_pair", {}, "nca", {}),
    ("robust", {"label_smoothing": 0.1}, "robust-dpo", {"epsilon": 0.1}),
    ("bco_pair", {}, "bco-pair", {}),
    ("sppo_hard", {}, "sppo", {}),
    ("aot", {"label_smoothing": 0.1}, "aot", {"epsilon": 0.1}),
    ("aot_unpaired", {}, "aot", {"form": "unpaired"}),
    ("apo_zero", {}, "apo-zero", {}),
    ("apo_down", {}, "apo-down", {}),
    ("discopop", {"discopop_tau": 0.1}, "discopop", {"tau": 0.1}),
    ("sigmoid_norm", {}, "ln-dpo", {}),
    ("sigmoid", {"ld_alpha": 0.4}, "ld-dpo", {"alpha": 0.4}),
    ("sigmoid", {"use_weighting": True}, "wpo", {}),
    ("sigmoid", {"f_divergence_type": "forward_kl"}, "f-dpo", {"divergence": "forward-kl"}),
    ("sigmoid", {"f_divergence_type": "js_divergence"}, "f-dpo", {"divergence": "js"}),
    (
        "sigmoid",
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        "f-dpo",
        {"divergence": "alpha", "alpha": 0.3},
    ),
]


def without_beginning() -> Any:
    """TRL puts no beginning-of-sequence token before text, even if the tokenizer has one."""
    tokenizer = small_tokenizer()
    tokenizer.bos_token = None
    return tokenizer


@pytest.mark.parametrize(
    ("loss_type", "theirs", "method", "ours"),
    CASES,
    ids=[f"{case[0]} {' '.join(map(str, case[1].values()))}".strip() for case in CASES],
)
def test_the_loss_of_a_batch_is_trls(
    loss_type: str,
    theirs: dict[str, Any],
    method: str,
    ours: dict[str, Any],
    tmp_path: Path,
) -> None:
    pairs = text_pairs(PAIRS)
    peer = trl.DPOTrainer(
        small_model("gpt2", seed=1),
        small_model("gpt2", seed=0),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"), loss_type=[loss_type], beta=BETA, **theirs, **COMMON
        ),
        train_dataset=paired_rows(pairs),
        processing_class=without_beginning(),
    )
    expected = loss_of(peer)
    trainer = trainer_of(tmp_path, method, {"beta": BETA, **ours}, pairs)
    assert mean_loss(trainer, pairs) == pytest.approx(expected, abs=1e-5, rel=1e-5)


EXPERIMENTAL: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"cpo_alpha": 0.7}, "cpo", {"beta": BETA, "lam": 0.7, "nll": "batch"}),
    ({"cpo_alpha": 0.0}, "cpo", {"beta": BETA, "lam": 0.0}),
    (
        {"loss_type": "hinge", "cpo_alpha": 0.7},
        "slic",
        {"beta": BETA, "delta": 1.0, "lam": 0.7, "nll": "batch"},
    ),
    (
        {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.4},
        "simpo",
        {"beta": BETA, "gamma": 0.4},
    ),
    (
        {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.4, "alpha": 0.25},
        "alphapo",
        {"beta": BETA, "gamma": 0.4, "alpha": 0.25},
    ),
]


@pytest.mark.parametrize(
    ("theirs", "method", "ours"),
    EXPERIMENTAL,
    ids=[f"{case[1]} {' '.join(map(str, case[0].values()))}" for case in EXPERIMENTAL],
)
def test_the_loss_of_a_batch_is_that_of_trls_cpo_trainer(
    theirs: dict[str, Any], method: str, ours: dict[str, Any], tmp_path: Path
) -> None:
    cpo = pytest.importorskip("trl.experimental.cpo")
    pairs = text_pairs(PAIRS)
    peer = cpo.CPOTrainer(
        small_model("gpt2", seed=1),
        args=cpo.CPOConfig(output_dir=str(tmp_path / "trl"), beta=BETA, **theirs, **COMMON),
        train_dataset=paired_rows(pairs),
        processing_class=padded(),
    )
    expected = loss_of(peer)
    trainer = trainer_of(tmp_path, method, ours, pairs)
    assert mean_loss(trainer, pairs) == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_orpos_odds_ratio_is_trls_and_its_likelihood_leaves_out_the_prompt(tmp_path: Path) -> None:
    orpo = pytest.importorskip("trl.experimental.orpo")
    pairs = text_pairs(PAIRS)
    peer = orpo.ORPOTrainer(
        small_model("gpt2", seed=1),
        args=orpo.ORPOConfig(output_dir=str(tmp_path / "trl"), beta=BETA, **COMMON),
        train_dataset=paired_rows(pairs),
        processing_class=padded(),
    )
    expected = loss_of(peer)
    trainer = trainer_of(tmp_path, "orpo", {"lam": BETA, "nll": "batch"}, pairs)
    policy, whole, responses = trainer.policy, [], []
    for pair in tokenize_pairs(pairs, without_beginning(), max_length=96).pairs:
        ids = torch.tensor([pair.prompt_ids + pair.chosen_ids])
        with torch.no_grad():
            logps = policy(ids).logits[0, :-1].log_softmax(-1)
        own = logps.gather(-1, ids[0, 1:, None])[:, 0]
        whole.append(own)
        responses.append(own[len(pair.prompt_ids) - 1 :])
    theirs, ours = (-float(torch.cat(values).mean()) for values in (whole, responses))
    assert theirs != pytest.approx(ours, rel=1e-3)
    found = mean_loss(trainer, pairs)
    assert found - ours + theirs == pytest.approx(expected, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("seed", [3, 5], ids=["z above 0", "z clamped"])
def test_the_loss_of_a_batch_of_unpaired_rows_is_trls(seed: int, tmp_path: Path) -> None:
    rows = [
        {"prompt": p.prompt, "completion": p.chosen, "label": n % 3 != 0}
        for n, p in enumerate(text_pairs(PAIRS))
    ]
    peer = trl.KTOTrainer(
        small_model("gpt2", seed=1),
        small_model("gpt2", seed=seed),
        args=trl.KTOConfig(
            output_dir=str(tmp_path / "trl"),
            beta=BETA,
            desirable_weight=0.7,
            undesirable_weight=1.2,
            **COMMON,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=without_beginning(),
    )
    expected = loss_of(peer)
    weights = {"desirable_weight": 0.7, "undesirable_weight": 1.2}
    trainer = trainer_of(tmp_path, "kto", {"beta": BETA, **weights}, rows, seed)
    # In the order of the rows, as TRL takes them; batches of an evaluation are sorted by length.
    (sample,), count = trainer.hook_step(
        [{"pairs": list(trainer.train_dataset)}], torch.device("cpu")
    )
    with torch.no_grad():
        loss, output = trainer.compute_loss(
            trainer.model, sample, return_outputs=True, num_items_in_batch=count
        )
    assert bool(output.metrics["kto/z"][0] > 0) is (seed == 3)
    assert float(loss) == pytest.approx(expected, abs=1e-5, rel=1e-5)


def paired_rows(pairs: list[PreferencePair]) -> Any:
    return datasets.Dataset.from_list(
        [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    )


def padded() -> Any:
    tokenizer = without_beginning()
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def loss_of(peer: Any) -> float:
    """Return the loss of TRL's trainer on its only batch, without dropout."""
    peer.model.eval()
    batch = peer._prepare_inputs(next(iter(peer.get_train_dataloader())))
    with torch.no_grad():
        return float(peer.compute_loss(peer.model, batch))


def trainer_of(
    folder: Path, method: str, values: dict[str, Any], data: Any, ref_seed: int = 0
) -> POTrainer:
    reference = {}
    if BUILT_IN[method].needs.reference:
        reference = {"ref_model": small_model("gpt2", seed=ref_seed)}
    return POTrainer(
        small_model("gpt2", seed=1),
        args=POConfig(
            output_dir=str(folder / "ours"),
            method=method,
            method_args=values,
            check_reference=False,
            **COMMON,
        ),
        train_dataset=data,
        processing_class=without_beginning(),
        **reference,
    )


def mean_loss(trainer: POTrainer, pairs: list[PreferencePair]) -> float:
    scores = trainer.score_pairs(pairs)
    assert len(scores) == PAIRS
    return sum(score.loss for score in scores) / PAIRS
