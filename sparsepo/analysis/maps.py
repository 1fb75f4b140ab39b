"""Token maps: the values of each response token under a trained policy, its masks and its method.

The page of `python -m sparsepo inspect` and the harness's figures are drawn from the JSON form
(`document`), which docs/inspect.md describes field by field.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, Literal

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from sparsepo.analysis.contributions import contributions_of
from sparsepo.analysis.texts import token_texts
from sparsepo.analysis.trained import TrainedModel
from sparsepo.batches.pack import pack_pairs, packed_length
from sparsepo.batches.regroup import batches_by_length
from sparsepo.batches.tokenize import LongResponse, TokenizeReport, tokenize_pairs
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.methods.masked import sparsity, uses_given_masks
from sparsepo.reference.online import Reference
from sparsepo.training.checks import check_sizes
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.training.start_check import Subject, check_start_of
from sparsepo.types import PreferencePair, TokenizedPair, TokenStats

__all__ = [
    "NOT_FINITE",
    "SCHEMA",
    "Maps",
    "ModelMaps",
    "PairMap",
    "ResponseMap",
    "Sparsity",
    "beta_of",
    "document",
    "token_maps",
]

SCHEMA = "sparsepo-token-maps-1"
"""Version of the JSON form, incremented when the meaning of a field changes."""

NOT_FINITE = "values that are not finite"

Values = tuple[float, ...]


@dataclass(frozen=True)
class ResponseMap:
    """One response; every tuple has one value per token, including the end of sequence.

    A field is None if the model has no reference, or its method has no such term.
    """

    text: str
    """The joined texts of the tokens."""
    tokens: tuple[str, ...]
    """Text of each token; "" if it is part of a character that a later token completes."""
    token_ids: tuple[int, ...]
    policy_logps: Values
    """log π(y_t | x, y_<t), in nats."""
    ref_logps: Values | None
    """log π_ref(y_t | x, y_<t), in nats."""
    log_ratios: Values | None
    """r_t = log π − log π_ref, in nats."""
    kl: Values | None
    """k_t = KL(π_ref ‖ π) over the whole vocabulary, in nats; measured for every method."""
    reward_mask: Values | None
    """m_u(t), without mask dropout; 1 if the method does not mask log-ratios."""
    kl_mask: Values | None
    """m_d(t); 1 if the method does not mask the KL, None if it has no KL term."""
    rewards: Values | None
    """β·r_t, before the mask; None if the method does not use log-ratios."""
    masked_rewards: Values | None
    """β·m_u·r_t."""
    weighted_kl: Values | None
    """β·k_t, before the mask."""
    masked_kl: Values | None
    """β·m_d·k_t."""
    contributions: Values | None
    """The token's contribution to the pair's margin, chosen minus rejected implicit reward: the
    sign is inverted for tokens of a rejected response. None if the method's reward is not a sum
    over tokens."""
    reward: float
    """The response's implicit reward as defined by the method."""


@dataclass(frozen=True)
class PairMap:
    """One preference pair under one model."""

    pair_id: str
    prompt: str
    """The prompt as the model saw it, with special tokens and after truncation."""
    loss: float
    chosen: ResponseMap
    rejected: ResponseMap

    @property
    def margin(self) -> float:
        """Chosen minus rejected implicit reward, the sum of all contributions."""
        return self.chosen.reward - self.rejected.reward


@dataclass(frozen=True)
class Sparsity:
    """Percentage of response tokens whose mask value is exactly 0, averaged over responses."""

    chosen: float
    rejected: float


@dataclass(frozen=True)
class ModelMaps:
    """The maps of all pairs under one trained model."""

    label: str
    """Display name, to distinguish several models."""
    method: str
    hyper_parameters: Mapping[str, Any]
    beta: float | None
    """The method's β; None if it has none."""
    model: str
    reference: str | None
    reward_sparsity: Sparsity | None
    """Sparsity of m_u; None if the method has no masks."""
    kl_sparsity: Sparsity | None
    skipped: Mapping[str, int]
    """Reason → number of pairs skipped for it."""
    pairs: tuple[PairMap, ...]


def document(models: Sequence[ModelMaps]) -> dict[str, Any]:
    """Return maps in their JSON form: `schema` and `models`, with fields by name."""
    return {
        "schema": SCHEMA,
        "models": [
            {
                **asdict(model),
                "pairs": [{**asdict(pair), "margin": pair.margin} for pair in model.pairs],
            }
            for model in models
        ],
    }


@dataclass(frozen=True)
class Maps:
    """The maps of one model, and the report on tokenization."""

    maps: ModelMaps
    report: TokenizeReport


@torch.no_grad()
def token_maps(
    trained: TrainedModel,
    pairs: Sequence[PreferencePair],
    *,
    max_length: int = 1024,
    max_prompt_length: int | None = None,
    on_long_response: LongResponse = "skip",
    batch_size: int = 8,
    chunk_size: int | None = None,
    seed: int = 42,
    accelerator: Accelerator | None = None,
) -> Maps:
    """Return the token maps of preference pairs under one model.

    Args:
        trained: see `sparsepo.analysis.trained.load_trained`.
        pairs: any preference pairs, in the text or the chat form.
        max_length: tokens of prompt and response together, within the model's context.
        max_prompt_length: tokens of a prompt; None means half of max_length.
        on_long_response: how to treat a response that does not fit.
        batch_size: pairs per batch; it changes values only by rounding.
        chunk_size: tokens per block of the fused operation.
        seed: seed of random masks, which are drawn again for each batch.
        accelerator: of a policy that is being trained; the reference is then computed in its mixed
            precision too, as in training.

    Returns:
        The maps in the order of the pairs. Pairs that exceed the context or have values that are
        not finite are skipped and counted.

    Raises:
        UserError: no pair is left, policy, reference and tokenizer do not match, or the masks were
            given.
    """
    module, method = trained.module, trained.method
    reference = trained.reference
    if uses_given_masks(method):
        raise UserError(
            f"{trained.label} was trained with given masks, which exist only in the file of its "
            "token_masks; give a model with masks of its own, or one without masks."
        )
    if method.needs.beyond_pairs:
        raise UserError(
            f"Method '{method.name}' reads values that only its training has, so {trained.label} "
            "has no token maps; give a model of another method."
        )
    check_sizes(module.policy, reference.model if reference else None, trained.tokenizer)
    context = getattr(module.config, "max_position_embeddings", None) or max_length
    tokenized = tokenize_pairs(
        pairs,
        trained.tokenizer,
        max_length=min(max_length, context),
        max_prompt_length=max_prompt_length,
        on_long_response=on_long_response,
    )
    if not tokenized.pairs:
        raise UserError("There are no pairs to map; give at least one.")
    subject = Subject(module, reference, method, accelerator=accelerator, chunk_size=chunk_size)
    autocast = nullcontext if accelerator is None else accelerator.autocast
    found: dict[int, tuple[PairMap, _Zeros]] = {}
    groups = batches_by_length([packed_length(pair) for pair in tokenized.pairs], batch_size)
    with _form_kept(module, reference):
        # A policy that is being trained keeps the form that its trainer has chosen.
        form: Literal["auto", "plain"] = "auto" if module.computation == "packed" else "plain"
        check_start_of(subject, tokenized.pairs, form)
        module.eval()
        with torch.random.fork_rng(), autocast():
            for number, group in enumerate(groups):
                torch.manual_seed(seed + number)
                members = [tokenized.pairs[item] for item in group]
                for item, pair_map in zip(
                    group, _maps_of_batch(trained, members, chunk_size), strict=True
                ):
                    if pair_map is not None:
                        found[item] = pair_map
    skipped = Counter(tokenized.report.skipped)
    if len(found) < len(tokenized.pairs):
        skipped[NOT_FINITE] = len(tokenized.pairs) - len(found)
    if not found:
        raise UserError(
            f"Under {trained.label} no pair has finite values; check the model's weights, or load "
            "it with model_dtype=float32."
        )
    kept = [found[item] for item in sorted(found)]
    maps = ModelMaps(
        label=trained.label,
        method=method.name,
        hyper_parameters=asdict(method),
        beta=beta_of(method),
        model=trained.model,
        reference=trained.reference_origin,
        reward_sparsity=_mean_sparsity([zeros.reward for _, zeros in kept]),
        kl_sparsity=_mean_sparsity([zeros.kl for _, zeros in kept]),
        skipped=dict(skipped),
        pairs=tuple(pair_map for pair_map, _ in kept),
    )
    return Maps(maps, tokenized.report)


@contextmanager
def _form_kept(module: PolicyWithMasks, reference: Reference | None) -> Iterator[None]:
    """Restore the form of a policy and a reference, which the start check may change.

    The policy may be one that is being trained, with another reference than the one given here.
    """
    before = module.computation
    of_reference = None if reference is None else reference.computation
    try:
        yield
    finally:
        module.computation = before
        if reference is not None and of_reference is not None:
            reference.computation = of_reference


def beta_of(method: Method) -> float | None:
    """Return the method's hyper-parameter β, or None if it has none."""
    beta = getattr(method, "beta", None)
    return float(beta) if isinstance(beta, int | float) else None


# --- one batch ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Zeros:
    """One pair's sparsity, (chosen, rejected), of each mask; None without masks."""

    reward: tuple[float, float] | None
    kl: tuple[float, float] | None


def _maps_of_batch(
    trained: TrainedModel, pairs: list[TokenizedPair], chunk_size: int | None
) -> list[tuple[PairMap, _Zeros] | None]:
    module, method, reference = trained.module, trained.method, trained.reference
    packed = module.computation == "packed"
    batch = pack_pairs(pairs, share_prompt=packed).to(module.policy.device)
    # Log-ratio and KL are computed for every method, to make methods comparable.
    needs = replace(method.needs, rejected=True)
    states = None
    if reference is not None:
        needs = replace(needs, ref_logps=True, kl=True)
        states = reference.read(batch, method, needs)
    sides = module(batch, states, needs, chunk_size)
    result = []
    for index, pair in enumerate(pairs):
        ids = (pair.chosen_ids, pair.rejected_ids)
        chosen, rejected = (
            _one_response(stats, index, len(own)) for stats, own in zip(sides, ids, strict=True)
        )
        found = _map_pair(trained, pair, chosen, rejected)
        if found is None and len(pairs) > 1:
            # NaN times an attention weight of 0 is NaN, so it spreads to other pairs in the row.
            (found,) = _maps_of_batch(trained, [pair], chunk_size)
        result.append(found)
    return result


def _one_response(stats: TokenStats, index: int, tokens: int) -> TokenStats:
    """Return one response of a batch without its padding, (1, T), in double precision."""
    values: dict[str, Any] = {
        name: None if value is None else value[index : index + 1, :tokens].double().cpu()
        for name, value in vars(stats).items()
    }
    return TokenStats(**values)


def _map_pair(
    trained: TrainedModel, pair: TokenizedPair, chosen: TokenStats, rejected: TokenStats
) -> tuple[PairMap, _Zeros] | None:
    method = trained.method
    output = method(chosen, rejected)
    rewards = (float(output.chosen_rewards), float(output.rejected_rewards))
    contributions = contributions_of(method, chosen, rejected)
    responses = [
        _map_response(trained, pair.prompt_ids, ids, stats, own, reward)
        for ids, stats, own, reward in zip(
            (pair.chosen_ids, pair.rejected_ids),
            (chosen, rejected),
            contributions or (None, None),
            rewards,
            strict=True,
        )
    ]
    loss = float(output.per_pair)
    if not all(map(math.isfinite, (loss, *chain.from_iterable(map(_numbers, responses))))):
        return None
    prompt = trained.tokenizer.decode(pair.prompt_ids, clean_up_tokenization_spaces=False)
    masks = [(_percent(s.reward_mask, s), _percent(s.kl_mask, s)) for s in (chosen, rejected)]
    zeros = _Zeros(*(_both(*column) for column in zip(*masks, strict=True)))
    if not method.needs.kl:
        zeros = replace(zeros, kl=None)
    return PairMap(pair.pair_id, str(prompt), loss, *responses), zeros


def _map_response(
    trained: TrainedModel,
    prompt_ids: Sequence[int],
    ids: Sequence[int],
    stats: TokenStats,
    contributions: Float[Tensor, " T"] | None,
    reward: float,
) -> ResponseMap:
    needs = trained.method.needs
    beta = beta_of(trained.method) if needs.ref_logps else None
    ones = torch.ones_like(stats.policy_logps)
    ratios = None if stats.ref_logps is None else stats.policy_logps - stats.ref_logps
    reward_mask = _mask(stats.reward_mask, ones, needs.ref_logps)
    kl_mask = _mask(stats.kl_mask, ones, needs.kl)
    rewards = _product(beta, ratios)
    weighted_kl = _product(beta, stats.kl)
    tokens = token_texts(trained.tokenizer, prompt_ids, ids)
    return ResponseMap(
        text="".join(tokens),
        tokens=tokens,
        token_ids=tuple(ids),
        policy_logps=_listed(stats.policy_logps) or (),
        ref_logps=_listed(stats.ref_logps),
        log_ratios=_listed(ratios),
        kl=_listed(stats.kl),
        reward_mask=_listed(reward_mask),
        kl_mask=_listed(kl_mask),
        rewards=_listed(rewards),
        masked_rewards=_listed(_product(rewards, reward_mask)),
        weighted_kl=_listed(weighted_kl),
        masked_kl=_listed(_product(weighted_kl, kl_mask)),
        contributions=_listed(contributions),
        reward=reward,
    )


def _mask(mask: Tensor | None, ones: Tensor, used: bool) -> Tensor | None:
    if not used:
        return None
    return ones if mask is None else mask


def _product(left: float | Tensor | None, right: Tensor | None) -> Tensor | None:
    return None if left is None or right is None else left * right


def _listed(values: Tensor | None) -> Values | None:
    return None if values is None else tuple(values.flatten().tolist())


def _numbers(response: ResponseMap) -> Values:
    columns = [getattr(response, item.name) for item in fields(response)]
    numbers = [c for c in columns if isinstance(c, tuple) and c and isinstance(c[0], float)]
    return (response.reward, *chain.from_iterable(numbers))


def _percent(mask: Tensor | None, stats: TokenStats) -> float | None:
    return None if mask is None else float(sparsity(mask, stats))


def _both(chosen: float | None, rejected: float | None) -> tuple[float, float] | None:
    return None if chosen is None or rejected is None else (chosen, rejected)


def _mean_sparsity(found: Sequence[tuple[float, float] | None]) -> Sparsity | None:
    known = [pair for pair in found if pair is not None]
    if not known:
        return None
    chosen, rejected = zip(*known, strict=True)
    return Sparsity(sum(chosen) / len(known), sum(rejected) / len(known))
