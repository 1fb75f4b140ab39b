"""Win rates of summaries: Figure 5's models, and one summary of each held-out pair's post."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.config.chains import chains
from harness.config.methods import check_methods
from harness.config.profiles import WORLD
from harness.config.request import RunRequest
from harness.domains.common.spec import RowSpec
from harness.domains.common.winrate.spec import Answers, Contest
from harness.domains.common.winrate.stages import WinrateGraph, build_winrate
from harness.domains.summarization.pipeline import Chain
from harness.domains.summarization.profile import SummarizationProfile

RULES = "tasks.summarization.truth:compare"


def build_graph(
    profile: SummarizationProfile,
    rows: Sequence[RowSpec],
    plugins: Mapping[str, Path],
    request: RunRequest,
) -> WinrateGraph:
    """Describe what the table needs; models are those of Figure 5.

    Args:
        profile: all values.
        rows: those to be shown.
        plugins: method → the file that it was loaded from with --plugin.
        request: the user's options.

    Raises:
        UserError: a file is missing, a method is unknown, or a value is not used.
    """
    check_methods(profile)
    contest = Contest(
        task="summary",
        rules=RULES if profile.data.tldr == WORLD else None,
        prompts=profile.sampling.win_rate_prompts,
        prompt_tokens=profile.po.max_prompt_length,
        response_tokens=profile.sampling.new_tokens,
    )
    answers = []
    for own in chains(profile):
        chain = Chain(own, plugins)
        answers.append(
            Answers(
                own.seed, chain.pairs, {row.id: chain.responses(row) for row in rows}, chain.whole
            )
        )
    return build_winrate(profile.judge, contest, answers, device=profile.device, request=request)
