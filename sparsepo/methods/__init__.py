"""One file per method: a pure function of token statistics, with its hyper-parameters."""

from __future__ import annotations

from sparsepo.methods.alphapo import AlphaPO
from sparsepo.methods.apo import APODown, APOZero
from sparsepo.methods.base import Method, Needs
from sparsepo.methods.cal_dpo import CalDPO
from sparsepo.methods.cdpo import CDPO
from sparsepo.methods.confpo import ConfPO
from sparsepo.methods.cpo import CPO
from sparsepo.methods.d2po import D2PO
from sparsepo.methods.discopop import DiscoPOP
from sparsepo.methods.dpo import DPO
from sparsepo.methods.dpop import DPOP
from sparsepo.methods.exo import EXO
from sparsepo.methods.f_dpo import FDPO
from sparsepo.methods.hinge import Hinge
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.ipo import IPO
from sparsepo.methods.ld_dpo import LDDPO
from sparsepo.methods.ln_dpo import LNDPO
from sparsepo.methods.mapo import MaPO
from sparsepo.methods.nca import NCA
from sparsepo.methods.odpo import ODPO
from sparsepo.methods.orpo import ORPO
from sparsepo.methods.repo import RePO
from sparsepo.methods.robust_dpo import RobustDPO
from sparsepo.methods.sft import SFT
from sparsepo.methods.simper import SimPER
from sparsepo.methods.simpo import SimPO
from sparsepo.methods.slic import SLiC
from sparsepo.methods.sparsepo import SparsePOCommon, SparsePOIndependent
from sparsepo.methods.sppo import SPPO, SPPOSoft
from sparsepo.methods.tdpo import TDPO1, TDPO2

_PAPER = (SFT, DPO, TDPO1, TDPO2, SimPO, DPOP, MaPO, SparsePOCommon, SparsePOIndependent)
_WITH_REFERENCE = (
    IPO,
    CDPO,
    RobustDPO,
    Hinge,
    EXO,
    NCA,
    SPPO,
    SPPOSoft,
    APOZero,
    APODown,
    DiscoPOP,
    FDPO,
    LNDPO,
    LDDPO,
    D2PO,
    CalDPO,
    ODPO,
)
_WITHOUT_REFERENCE = (CPO, ORPO, SLiC, SimPER, AlphaPO, RePO, ConfPO)

PAPER: dict[str, type[Method]] = {cls.name: cls for cls in _PAPER}
"""The methods of the paper, in the order of its tables."""

BUILT_IN: dict[str, type[Method]] = {
    **PAPER,
    **{cls.name: cls for cls in (*_WITH_REFERENCE, *_WITHOUT_REFERENCE)},
}
"""Every method of the library: the paper's first, then those of its related work."""

__all__ = [
    "BUILT_IN",
    "DPO",
    "DPOP",
    "PAPER",
    "SFT",
    "TDPO1",
    "TDPO2",
    "MaPO",
    "Method",
    "Needs",
    "SimPO",
    "SparsePOCommon",
    "SparsePOIndependent",
    "hyper_parameter",
]
