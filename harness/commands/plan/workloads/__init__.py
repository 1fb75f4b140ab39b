"""The work of any stage; the stages of each domain are in a file of their own."""

from __future__ import annotations

from dataclasses import replace

from harness.commands.plan.model_sizes import UnknownSizeError
from harness.commands.plan.sizes import Sizes
from harness.commands.plan.work import Readers, Work
from harness.commands.plan.workloads import code, common, dialogue, sentiment, summarization
from harness.graph.stages import Stage

_DOMAINS: tuple[Readers, ...] = tuple(
    domain.READERS for domain in (common, dialogue, code, sentiment, summarization)
)
_READERS = {
    function: (kind, reader)
    for by_kind in _DOMAINS
    for kind, readers in by_kind.items()
    for function, reader in readers.items()
}


class Workloads:
    """Returns the work of stages; sizes that several stages share are found once."""

    def __init__(self) -> None:
        self.sizes = Sizes()

    def of(self, stage: Stage) -> Work:
        """Return what a stage computes; data, choices and other small stages take their start."""
        found = _READERS.get(stage.function.removeprefix("harness.domains."))
        if found is None:
            return Work()
        kind, reader = found
        try:
            return replace(reader(stage, self.sizes), kind=kind)
        except UnknownSizeError as error:
            return Work(unknown=str(error), kind=kind)
