"""A step computes what its method's passes say, counted operation by operation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.methods import ON_PAIRS
from benchmarks.passes import explained, passes_of, recomputed_share, work
from benchmarks.shapes import NARROW, write_model, write_pairs
from benchmarks.steps import weights_file
from sparsepo import POConfig, POTrainer
from sparsepo.data.pairs import read_pairs
from sparsepo.methods import BUILT_IN
from sparsepo.methods.base import Needs
from sparsepo.methods.masked import MaskedMethod
from sparsepo.training.loading import load_tokenizer
from sparsepo.types import PreferencePair

SHAPE = replace(
    NARROW[1], layers=2, width=32, heads=2, vocabulary=2000, prompt=10, response=12, pairs=3
)
KEEPS = 2**28
"""Bytes; all logits of the shape are kept."""

WEIGHTED = ("tis-dpo", "tis-dpo-kl", "tgdpo", "weighted-dpo")
"""Methods that may leave tokens out, and do not: all further models are equal here."""

ATEN: Any = torch.ops.aten
PRODUCTS = (ATEN.mm, ATEN.addmm, ATEN.addmm_)
FREE = (
    *(
        ATEN.t,
        ATEN.view,
        ATEN._unsafe_view,
        ATEN.transpose,
        ATEN.expand,
        ATEN.alias,
        ATEN.detach,
        ATEN.permute,
    ),
    # Views of blocks, memory that is not written, and one value of a row.
    *(ATEN.slice, ATEN.select, ATEN.empty, ATEN.empty_like, ATEN.gather),
)


class Work(TorchDispatchMode):
    """Counts multiplications of matrix products, and element-wise operations on logits."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.sweeps = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation in PRODUCTS:
            left, right = args[-2:]
            self.products += left.shape[0] * left.shape[1] * right.shape[1]
        elif operation not in FREE:
            tensors = (x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
            # Those of both responses, or of the chosen ones.
            self.sweeps += any(
                x.dim() == 2
                and x.shape[1] == SHAPE.vocabulary
                and x.shape[0] in (SHAPE.pairs * SHAPE.response, 2 * SHAPE.pairs * SHAPE.response)
                for x in tensors
            )
        return out


@dataclass
class Workshop:
    """A model, its pairs, and the place for what a run writes."""

    folder: Path
    pairs: list[PreferencePair]

    def step(self, method: str) -> Work:
        """Return the work of the forward and the backward pass of a step."""
        needs, model = BUILT_IN[method].needs, self.folder / "model"
        options: dict[str, Any] = {}
        if needs.token_weights:
            file = self.folder / "weights.jsonl"
            options["token_masks"] = str(weights_file(self.pairs, load_tokenizer(str(model)), file))
        trainer = POTrainer(
            str(model),
            args=POConfig(
                output_dir=str(self.folder / "out"),
                method=method,
                per_device_train_batch_size=len(self.pairs),
                max_steps=1,
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                check_reference=False,
                **options,
            ),
            train_dataset=self.pairs,
            **{name: str(model) for name in needs.models},  # type: ignore[arg-type]
        )
        (sample,), count = trainer.hook_step(
            [{"pairs": list(trainer.train_dataset)}], torch.device("cpu")
        )
        with Work() as found:
            trainer.compute_loss(trainer.model, sample, num_items_in_batch=count).backward()
        return found


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("passes")
    write_model(SHAPE, folder / "model")
    write_pairs(SHAPE, SHAPE.pairs, folder / "pairs.jsonl")
    pairs = [
        replace(pair, scores=(2.0, 1.0), win_probability=0.75)
        for pair in read_pairs(folder / "pairs.jsonl").pairs
    ]
    return Workshop(folder, pairs)


@pytest.fixture(scope="module")
def peer(workshop: Workshop) -> Work:
    return workshop.step("dpo")


@pytest.mark.parametrize("method", ON_PAIRS)
def test_a_step_computes_what_its_passes_say(method: str, workshop: Workshop, peer: Work) -> None:
    cls = BUILT_IN[method]
    found, said = workshop.step(method), passes_of(cls.needs).sweeps
    own, dpo = (work(needs, SHAPE, KEEPS)[0] for needs in (cls.needs, BUILT_IN["dpo"].needs))
    ratio = found.products / peer.products
    # Masks have a few products of their own.
    if (cls.flat and method not in WEIGHTED) or issubclass(cls, MaskedMethod):
        # Tokens that get no gradient have no backward pass over the vocabulary; it is one operation
        # to take the others' logits.
        assert 4 < found.sweeps <= said + cls.flat and ratio < 1.02 * own / dpo
    else:
        assert found.sweeps == said and ratio == pytest.approx(own / dpo, rel=0.02)


def test_a_ratio_is_explained_by_the_part_that_grows_most() -> None:
    def of(method: str) -> float:
        return explained(BUILT_IN[method], SHAPE, KEEPS)

    assert of("dpo") == of("ipo") == of("tis-dpo") == of("otpo") == 1
    assert of("tdpo1") == pytest.approx(13 / 9)
    assert of("tis-dpo-kl") == pytest.approx(14 / 9)
    assert of("wpo") == pytest.approx(11 / 9)
    assert of("kto") == pytest.approx(17 / 9)
    # Two further passes over the layers, beside three.
    assert of("ti-dpo") == pytest.approx(5 / 3)
    assert 0.5 < of("orpo") < 1 and of("sft") < of("orpo")


def test_logits_that_do_not_fit_are_computed_again() -> None:
    logits = 4 * 2 * SHAPE.pairs * SHAPE.response * SHAPE.vocabulary
    assert recomputed_share(Needs(), SHAPE, logits) == 0
    assert recomputed_share(Needs(kl=True), SHAPE, logits) == pytest.approx(0.5)
    assert passes_of(Needs(), 0.5).products == 4.5
    again = passes_of(Needs(reverse_kl=True), 1.0)
    assert (again.products, again.sweeps) == (6, 14 + 3)
