"""One file per method: a pure function of token statistics, with its hyper-parameters."""

from __future__ import annotations

from sparsepo.methods.base import Method, Needs
from sparsepo.methods.dpo import DPO
from sparsepo.methods.dpop import DPOP
from sparsepo.methods.mapo import MaPO
from sparsepo.methods.sft import SFT
from sparsepo.methods.simpo import SimPO
from sparsepo.methods.sparsepo import SparsePOCommon, SparsePOIndependent
from sparsepo.methods.tdpo import TDPO1, TDPO2

BUILT_IN: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (SFT, DPO, TDPO1, TDPO2, SimPO, DPOP, MaPO, SparsePOCommon, SparsePOIndependent)
}
"""The methods of the paper, in the order of its tables."""

__all__ = [
    "BUILT_IN",
    "DPO",
    "DPOP",
    "SFT",
    "TDPO1",
    "TDPO2",
    "MaPO",
    "Method",
    "Needs",
    "SimPO",
    "SparsePOCommon",
    "SparsePOIndependent",
]
