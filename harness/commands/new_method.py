"""``python -m harness new-method NAME``: a method file that works, and its test, to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from harness.graph.files import require_writable, write_files
from sparsepo.errors import UserError
from sparsepo.registry import available_methods

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_METHOD = Template('''"""$title: a method of preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from sparsepo import LossOutput, Method, Needs, TokenStats
from sparsepo.methods import hyper_parameter
from sparsepo.methods.base import log_ratios, response_sum


@dataclass(frozen=True)
class $class_name(Method):
    """One sentence on what the method does.

    L = −log σ(β[Σ r_w − Σ r_l]). Implicit reward: β Σ r. Source: the paper and its equation.
    """

    name: ClassVar[str] = "$name"
    title: ClassVar[str] = "$title"
    source: ClassVar[str] = "the paper and its equation"
    # What __call__ reads; nothing else is computed. Needs(kl=True) adds the token KL,
    # Needs(ref_logps=False) leaves the reference out.
    needs: ClassVar[Needs] = Needs()

    # Hyper-parameters: --set beta=0.2 changes them, and values out of range are refused.
    beta: float = hyper_parameter(
        0.1, "Strength of the reference.", source="the paper", low=0, open_low=True
    )

    def __call__(self, chosen: TokenStats, rejected: TokenStats) -> LossOutput:
        """Return the loss of B pairs; every field of the statistics is (B, T), padding included."""
        # response_sum adds up over the response's tokens alone, and ignores padding.
        chosen_sum = response_sum(log_ratios(chosen), chosen)
        rejected_sum = response_sum(log_ratios(rejected), rejected)
        per_pair = -F.logsigmoid(self.beta * (chosen_sum - rejected_sum))
        return LossOutput(
            loss=per_pair.mean(),
            per_pair=per_pair,
            # The quantity that the loss orders, without a gradient.
            chosen_rewards=(self.beta * chosen_sum).detach(),
            rejected_rewards=(self.beta * rejected_sum).detach(),
        )
''')

_MASK = Template('''"""$title: a token mask of its own on TDPO's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsepo import Needs, TokenStats
from sparsepo.methods import hyper_parameter
from sparsepo.methods.masked import MaskedMethod


@dataclass(frozen=True)
class $class_name(MaskedMethod):
    """One sentence on which tokens count.

    L = −log σ(β[(Σ m r_w − Σ m r_l) − (Σ m k_l − Σ m k_w)]), where m_t is 1 for tokens that the
    reference finds less likely than `likely`, and 0 for the others. Source: your own.
    """

    name: ClassVar[str] = "$name"
    title: ClassVar[str] = "$title"
    source: ClassVar[str] = "a mask of our own"
    # The masked loss reads log-ratios and KL. mask="activation" also gives the mask of MaPO as
    # stats.reward_mask, "learned-common" that of SparsePO; combine them as you like.
    needs: ClassVar[Needs] = Needs(kl=True)

    likely: float = hyper_parameter(
        0.9,
        "Probability from which a token counts no more.",
        source="[ours]",
        low=0,
        high=1,
        open_low=True,
    )

    def masks(self, stats: TokenStats) -> tuple[Tensor, Tensor]:
        """Return the masks on log-ratios and on KL, each (B, T), at least 0; padding is ignored."""
        if stats.ref_logps is None:
            raise ValueError("This method needs ref_logps; pass statistics that contain them.")
        mask = (stats.ref_logps.exp() < self.likely).to(stats.ref_logps.dtype)
        return mask, mask
''')

_TEST = Template('''"""$title keeps what the trainer relies on: python -m pytest $test"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from $module import $class_name

from sparsepo import Method
from sparsepo.conformance import CHECKS


@pytest.mark.parametrize("check", CHECKS)
def test_conforms(check: Callable[[type[Method]], None]) -> None:
    check($class_name)
''')


def write_method(name: str, folder: Path, mask: bool) -> list[Path]:
    """Write a method's file and its test.

    Args:
        name: the method's name, in lower case, words joined by hyphens.
        folder: where to; it is made if it does not exist.
        mask: begin with a mask instead of a loss.

    Returns:
        The two files.

    Raises:
        UserError: the name cannot be used, or a file exists.
    """
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"'{name}' cannot be the name of a method; use lower-case letters, digits and single "
            "hyphens, such as my-method."
        )
    if name in available_methods():
        raise UserError(f"There is a method '{name}' already; choose another name.")
    module = name.replace("-", "_")
    words = {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "module": module,
        "test": f"test_{module}.py",
    }
    files = {
        f"{module}.py": (_MASK if mask else _METHOD).substitute(words),
        words["test"]: _TEST.substitute(words),
    }
    for file in files:
        if (folder / file).exists():
            raise UserError(f"{folder / file} exists; choose another name or --folder.")
    require_writable(folder)
    write_files(folder, files)
    return [folder / file for file in files]


def next_steps(files: list[Path]) -> str:
    """Return what to do with the files, one command per line."""
    method, test = files
    return "\n".join(
        (
            f"written: {method}, {test}",
            "Next: write the loss, then",
            f"  python -m sparsepo check {method}",
            f"  python -m harness run --table 1 --methods dpo,{method.stem.replace('_', '-')} "
            f"--plugin {method}",
        )
    )
