"""A small NLI model that aligns words: decomposable attention behind transformers' interface.

A transformer of a few layers needs many thousands of steps until it compares two sentences word by
word. This model has the comparison built in, and learns the statements of an embedded world in a
few hundred steps.

Source:
    Parikh et al., A Decomposable Attention Model for Natural Language Inference (2016), with a
    convolution over neighbouring tokens in place of intra-sentence attention [ours].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class AlignmentConfig(PreTrainedConfig):
    """Sizes of an `AlignmentModel`."""

    model_type = "sparsepo-alignment"
    vocab_size: int = 2000
    width: int = 64
    max_position_embeddings: int = 128
    pad_token_id: int | None = 0
    special_ids: tuple[int, ...] = ()


class AlignmentModel(PreTrainedModel):
    """Entailment, neutral or contradiction from a soft alignment of two sentences.

    With h the states of tokens (embedding plus a convolution over three tokens), every token of
    each sentence is aligned with the other sentence,

        a_j = Σ_i softmax_i(s · h_i·h_j) h_i,    v_j = MLP[h_j, a_j, h_j − a_j, h_j ∘ a_j],

    and mean and maximum of v over each sentence decide by a second MLP. Similar tokens align
    before any training, because h is compared with itself.
    """

    config_class = AlignmentConfig
    base_model_prefix = "alignment"

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.context = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.compare = nn.Sequential(
            nn.Linear(4 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.GELU()
        )
        self.classify = nn.Sequential(
            nn.Linear(4 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, len(config.id2label or ())),
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        labels: Tensor | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Classify pairs of sentences.

        Args:
            input_ids: tokens of premise and hypothesis, (B, T).
            attention_mask: 0 for padding, (B, T).
            token_type_ids: 0 for the premise's tokens, 1 for the hypothesis', (B, T).
            labels: ids of the right labels, (B,).
            unused: other inputs of transformers' models.

        Returns:
            Logits, (B, labels), and the mean cross-entropy in nats if labels are given.
        """
        special = torch.tensor(self.config.special_ids, device=input_ids.device)
        words = attention_mask.bool() & ~torch.isin(input_ids, special)
        embedded = self.embeddings(input_ids) * words[..., None]
        context = self.context(embedded.transpose(1, 2)).transpose(1, 2)
        states = embedded + functional.gelu(context) * words[..., None]
        premise, hypothesis = words & (token_type_ids == 0), words & (token_type_ids == 1)
        similarity = self.sharpness * states @ states.transpose(1, 2)
        pooled = []
        for own, other in ((hypothesis, premise), (premise, hypothesis)):
            weights = similarity.masked_fill(~other[:, None], torch.finfo(states.dtype).min)
            aligned = weights.softmax(-1) @ (states * other[..., None])
            parts = (states, aligned, states - aligned, states * aligned)
            compared = self.compare(torch.cat(parts, dim=-1)) * own[..., None]
            pooled += [compared.sum(1) / own.sum(1, keepdim=True).clamp(min=1), compared.amax(1)]
        logits = self.classify(torch.cat(pooled, dim=-1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


AutoConfig.register(AlignmentConfig.model_type, AlignmentConfig, exist_ok=True)
AutoModelForSequenceClassification.register(AlignmentConfig, AlignmentModel, exist_ok=True)
