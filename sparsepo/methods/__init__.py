"""One file per method: a pure function of token statistics, with its hyper-parameters."""

from __future__ import annotations

from sparsepo.methods.alpha_dpo import AlphaDPO
from sparsepo.methods.alphapo import AlphaPO
from sparsepo.methods.aot import AOT
from sparsepo.methods.apo import APODown, APOZero
from sparsepo.methods.base import Method, Needs
from sparsepo.methods.bco import BCO, BCOPair
from sparsepo.methods.beta_dpo import BetaDPO
from sparsepo.methods.cal_dpo import CalDPO
from sparsepo.methods.cdpo import CDPO
from sparsepo.methods.confpo import ConfPO
from sparsepo.methods.cpo import CPO
from sparsepo.methods.d2po import D2PO
from sparsepo.methods.discopop import DiscoPOP
from sparsepo.methods.dpo import DPO
from sparsepo.methods.dpop import DPOP
from sparsepo.methods.exo import EXO
from sparsepo.methods.f_dpg import FDPG
from sparsepo.methods.f_dpo import FDPO
from sparsepo.methods.grpo import GRPO
from sparsepo.methods.hinge import Hinge
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.inpo import INPO
from sparsepo.methods.ipo import IPO
from sparsepo.methods.kto import KTO, KTOPair
from sparsepo.methods.ld_dpo import LDDPO
from sparsepo.methods.ln_dpo import LNDPO
from sparsepo.methods.mapo import MaPO
from sparsepo.methods.nca import NCA
from sparsepo.methods.odpo import ODPO
from sparsepo.methods.orpo import ORPO
from sparsepo.methods.otpo import OTPO
from sparsepo.methods.ppo import PPO
from sparsepo.methods.repo import RePO
from sparsepo.methods.robust_dpo import RobustDPO
from sparsepo.methods.rto import RTO
from sparsepo.methods.sepo import SePO
from sparsepo.methods.sft import SFT
from sparsepo.methods.simper import SimPER
from sparsepo.methods.simpo import SimPO
from sparsepo.methods.slic import SLiC
from sparsepo.methods.sparsepo import SparsePOCommon, SparsePOIndependent
from sparsepo.methods.sppo import SPPO, SPPOSoft
from sparsepo.methods.tdpo import TDPO1, TDPO2
from sparsepo.methods.tgdpo import TGDPO
from sparsepo.methods.ti_dpo import TIDPO
from sparsepo.methods.tis_dpo import TISDPO, TISDPOKL
from sparsepo.methods.weighted_dpo import WeightedDPO
from sparsepo.methods.wpo import WPO

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
_OVER_BATCHES = (KTO, KTOPair, BCO, BCOPair, AOT, BetaDPO, AlphaDPO, WPO)
_WITH_WEIGHTS = (SePO, TISDPO, TISDPOKL, TGDPO, OTPO, TIDPO, WeightedDPO, INPO)
_ON_SAMPLES = (FDPG, GRPO, PPO, RTO)
_WITHOUT_REFERENCE = (CPO, ORPO, SLiC, SimPER, AlphaPO, RePO, ConfPO)

PAPER: dict[str, type[Method]] = {cls.name: cls for cls in _PAPER}
"""The methods of the paper, in the order of its tables."""

BUILT_IN: dict[str, type[Method]] = {
    **PAPER,
    **{
        cls.name: cls
        for cls in (
            *_WITH_REFERENCE,
            *_WITHOUT_REFERENCE,
            *_OVER_BATCHES,
            *_WITH_WEIGHTS,
            *_ON_SAMPLES,
        )
    },
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
