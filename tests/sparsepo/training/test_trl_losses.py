"""Losses of whole batches, from text on, are those of TRL's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo import POConfig, POTrainer
from tests.small_models import small_model, small_tokenizer, text_pairs

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

BETA = 0.3
PAIRS = 6
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
    common = {
        "per_device_train_batch_size": PAIRS, "per_device_eval_batch_size": PAIRS, "use_cpu": True,
        "report_to": "none", "max_length": 96, "disable_tqdm": True, "bf16": False,
    }  # fmt: skip
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    peer = trl.DPOTrainer(
        small_model("gpt2", seed=1),
        small_model("gpt2", seed=0),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"), loss_type=[loss_type], beta=BETA, **theirs, **common
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=without_beginning(),
    )
    peer.model.eval()
    batch = peer._prepare_inputs(next(iter(peer.get_train_dataloader())))
    with torch.no_grad():
        expected = float(peer.compute_loss(peer.model, batch))
    trainer = POTrainer(
        small_model("gpt2", seed=1),
        ref_model=small_model("gpt2", seed=0),
        args=POConfig(
            output_dir=str(tmp_path / "ours"),
            method=method,
            beta=BETA,
            method_args=ours,
            check_reference=False,
            **common,
        ),
        train_dataset=pairs,
        processing_class=without_beginning(),
    )
    scores = trainer.score_pairs(pairs)
    assert len(scores) == PAIRS
    assert sum(score.loss for score in scores) / PAIRS == pytest.approx(
        expected, abs=1e-5, rel=1e-5
    )
