"""The time of training steps, of one method alone or of several in turns with DPO's."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback

from benchmarks.clock import synchronize
from benchmarks.measure import WARM_UP
from benchmarks.passes import PEER
from benchmarks.turns import in_turn
from sparsepo import POConfig, POTrainer
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.methods import BUILT_IN
from sparsepo.training.loading import load_tokenizer
from sparsepo.types import PreferencePair


def now() -> float:
    """Return the time in seconds.

    With one thread on a CPU it is the processor's time, which other programs do not lengthen.
    """
    if torch.cuda.is_available():
        synchronize("cuda")
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


class _EachStep(TrainerCallback):
    """Records the seconds of each step with its batch; calls a function after it."""

    def __init__(self, after: Callable[[], None]) -> None:
        self.seconds: list[float] = []
        self._after = after
        self._start = now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(now() - self._start)
        self._after()
        self._start = now()


def step_seconds(
    method: str,
    model: Path,
    pairs: list[PreferencePair],
    steps: int,
    after: Callable[[], None] = lambda: None,
) -> list[float]:
    """Return the seconds of a method's steps after the warm-up.

    Args:
        method: a built-in method.
        model: folder of the initial model, which is any further model of the method, too.
        pairs: enough for one step, with scores and probabilities.
        steps: measured steps.
        after: called after each step; its time does not count.
    """
    needs = BUILT_IN[method].needs
    each = _EachStep(after)
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {}
        if needs.token_weights:
            file = Path(folder) / "weights.jsonl"
            options["token_masks"] = str(weights_file(pairs, load_tokenizer(str(model)), file))
        trainer = POTrainer(
            str(model),
            args=POConfig(
                output_dir=folder,
                method=method,
                per_device_train_batch_size=len(pairs),
                max_steps=WARM_UP + steps,
                learning_rate=1e-6,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
                # NaN and huge values of untrained models are no concern here.
                logging_steps=10_000,
                **options,
            ),
            train_dataset=pairs,
            callbacks=[each],
            **{name: str(model) for name in needs.models},  # type: ignore[arg-type]
        )
        trainer.train()
    return each.seconds[WARM_UP:]


def steps_in_turn(
    methods: Sequence[str], model: Path, pairs: list[PreferencePair], steps: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, Exception]]:
    """Train methods and DPO together, a step of each in turn, each on the same pairs.

    What slows the machine for longer than a round of steps slows a method and DPO alike.

    Args:
        methods: built-in methods.
        model: folder of the initial model.
        pairs: enough for one step, with scores and probabilities.
        steps: measured steps of each.

    Returns:
        Method → seconds of its steps; method → their ratios to the mean of DPO's steps before and
        after; method → why it could not be measured.

    Raises:
        Exception: DPO's own, if it could not be measured.
    """
    # DPO's name may be among the methods.
    peer = f"{PEER}, the peer"
    seconds: dict[str, list[float]] = {}

    def job(name: str, method: str, count: int) -> Callable[[Callable[[], None]], None]:
        def run(pass_on: Callable[[], None]) -> None:
            seconds[name] = step_seconds(method, model, pairs, count, pass_on)

        return run

    jobs = {peer: job(peer, PEER, steps + 1)}
    failures = in_turn(jobs | {name: job(name, name, steps) for name in methods})
    if peer in failures:
        raise failures[peer]
    around = seconds.pop(peer)
    neighbours = [mean(pair) for pair in pairwise(around)]
    ratios = {
        name: [own / other for own, other in zip(values, neighbours, strict=True)]
        for name, values in seconds.items()
    }
    return seconds, ratios, failures


def weights_file(
    pairs: Sequence[PreferencePair],
    tokenizer: PreTrainedTokenizerBase,
    file: Path,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    max_length: int = 1024,
) -> Path:
    """Write a weight for each token of some pairs, and return the file.

    Args:
        pairs: the pairs.
        tokenizer: the model's.
        file: where to.
        weights: of every token of chosen and of rejected responses.
        max_length: of a prompt with a response, in tokens.
    """
    tokenized = tokenize_pairs(pairs, tokenizer, max_length=max_length).pairs
    rows = (
        {
            "pair_id": pair.pair_id,
            "reward_mask": {
                "chosen": [weights[0]] * len(pair.chosen_ids),
                "rejected": [weights[1]] * len(pair.rejected_ids),
            },
        }
        for pair in tokenized
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
