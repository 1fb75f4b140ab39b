"""Self-BLEU: how alike the samples of one prompt are, through sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tasks.metrics.text.base import Scores, package_version, scores_of
from tasks.metrics.text.cache import Key, ScoreCache

TOO_FEW = "fewer than two of the prompt's samples have text"


class SelfBleu:
    """Mean BLEU of each sample with the prompt's other samples as references, in [0, 100].

    100 means that all samples are the same. Empty samples are left out: sacrebleu gives 0 for them,
    as if they were unlike all others. BLEU is sacrebleu's sentence BLEU with its defaults
    (tokenizer 13a, case kept, exponential smoothing, effective order), [ours]: without effective
    order, two equal samples of three words would have 0.

    Source:
        Zhu et al., Texygen (2018); Post, A Call for Clarity in Reporting BLEU Scores (2018).
    """

    name = "self_bleu"
    label = "self-BLEU"
    higher_is_better = False
    bounds: tuple[float, float | None] = (0.0, 100.0)
    takes: Literal["groups"] = "groups"
    needs: None = None

    def __init__(self, cache: Path | None = None, batch: int = 512) -> None:
        self._version = package_version("sacrebleu", "sacrebleu", "Self-BLEU")
        self._batch = batch
        self.cache = ScoreCache(cache, self.name, self.signature())

    def signature(self) -> dict[str, str]:
        """Return package, version and settings; the last is sacrebleu's own signature."""
        return {
            "metric": self.name,
            "package": "sacrebleu",
            "version": self._version,
            "references": "the other samples of the prompt",
            "sacrebleu": "nrefs:var|case:mixed|eff:yes|tok:13a|smooth:exp",
        }

    def score(
        self,
        groups: Sequence[Sequence[str]],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score each group of samples.

        Args:
            groups: the samples of each prompt, g.
            references: not used.
            documents: not used.

        Returns:
            One value per group.
        """
        kept = [[text for text in group if text.strip()] for group in groups]
        reasons = [None if len(group) > 1 else TOO_FEW for group in kept]
        # The order of samples has no meaning.
        keys = [tuple(sorted(group)) for group in kept if len(group) > 1]
        return scores_of(self.cache.values(keys, self._compute, self._batch), reasons)

    def _compute(self, keys: list[Key]) -> list[float | None]:
        return [self._of_group(samples) for samples in keys]

    def _of_group(self, samples: Sequence[str]) -> float:
        # Equal samples have equal values.
        found: dict[str, float] = {}
        for place, sample in enumerate(samples):
            if sample not in found:
                others = [*samples[:place], *samples[place + 1 :]]
                found[sample] = float(self._bleu.sentence_score(sample, others).score)
        return sum(found[sample] for sample in samples) / len(samples)

    @cached_property
    def _bleu(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(effective_order=True)
