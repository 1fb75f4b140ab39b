"""BibTeX entries of the built-in methods' papers, by arXiv number."""

from __future__ import annotations

import re

SPARSEPO = "2410.05102"

_ENTRY = """\
@{kind}{{{key},
  title = {{{title}}},
  author = {{{authors}}},
  {venue},
  year = {{{year}}},
  eprint = {{{eprint}}},
  archivePrefix = {{arXiv}},
}}"""

_PAPERS = {
    SPARSEPO: {
        "kind": "inproceedings",
        "key": "christopoulou-etal-2025-sparsepo",
        "title": "{SparsePO}: Controlling Preference Alignment of {LLM}s via Sparse Token Masks",
        "authors": "Christopoulou, Fenia and Cardenas, Ronald and Lampouras, Gerasimos and "
        "Bou Ammar, Haitham and Wang, Jun",
        "venue": "booktitle = {Findings of the Association for Computational Linguistics: EMNLP "
        "2025}",
        "year": "2025",
    },
    "2305.18290": {
        "kind": "inproceedings",
        "key": "rafailov-etal-2023-dpo",
        "title": "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "authors": "Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and Ermon, Stefano and "
        "Manning, Christopher D. and Finn, Chelsea",
        "venue": "booktitle = {Advances in Neural Information Processing Systems}",
        "year": "2023",
    },
    "2402.13228": {
        "kind": "article",
        "key": "pal-etal-2024-smaug",
        "title": "Smaug: Fixing Failure Modes of Preference Optimisation with {DPO}-Positive",
        "authors": "Pal, Arka and Karkhanis, Deep and Dooley, Samuel and Roberts, Manley and "
        "Naidu, Siddartha and White, Colin",
        "venue": "journal = {arXiv preprint arXiv:2402.13228}",
        "year": "2024",
    },
    "2405.14734": {
        "kind": "inproceedings",
        "key": "meng-etal-2024-simpo",
        "title": "{SimPO}: Simple Preference Optimization with a Reference-Free Reward",
        "authors": "Meng, Yu and Xia, Mengzhou and Chen, Danqi",
        "venue": "booktitle = {Advances in Neural Information Processing Systems}",
        "year": "2024",
    },
    "2404.11999": {
        "kind": "inproceedings",
        "key": "zeng-etal-2024-tdpo",
        "title": "Token-level Direct Preference Optimization",
        "authors": "Zeng, Yongcheng and Liu, Guoqing and Ma, Weiyu and Yang, Ning and "
        "Zhang, Haifeng and Wang, Jun",
        "venue": "booktitle = {International Conference on Machine Learning}",
        "year": "2024",
    },
}

_RELATED = {
    "2310.12036": (
        "azar-etal-2024-ipo",
        "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        "Azar, Mohammad Gheshlaghi",
        "2024",
    ),
    "2403.00409": (
        "chowdhury-etal-2024-robust",
        "Provably Robust {DPO}: Aligning Language Models with Noisy Feedback",
        "Chowdhury, Sayak Ray",
        "2024",
    ),
    "2309.06657": (
        "liu-etal-2024-rso",
        "Statistical Rejection Sampling Improves Preference Optimization",
        "Liu, Tianqi",
        "2024",
    ),
    "2305.10425": (
        "zhao-etal-2023-slic-hf",
        "{SLiC-HF}: Sequence Likelihood Calibration with Human Feedback",
        "Zhao, Yao",
        "2023",
    ),
    "2402.00856": (
        "ji-etal-2024-exo",
        "Towards Efficient Exact Optimization of Language Model Alignment",
        "Ji, Haozhe",
        "2024",
    ),
    "2402.05369": (
        "chen-etal-2024-nca",
        "Noise Contrastive Alignment of Language Models with Explicit Rewards",
        "Chen, Huayu",
        "2024",
    ),
    "2405.00675": (
        "wu-etal-2024-sppo",
        "Self-Play Preference Optimization for Language Model Alignment",
        "Wu, Yue",
        "2024",
    ),
    "2408.06266": (
        "doosterlinck-etal-2024-apo",
        "Anchored Preference Optimization and Contrastive Revisions: Addressing "
        "Underspecification in Alignment",
        "D'Oosterlinck, Karel",
        "2024",
    ),
    "2406.08414": (
        "lu-etal-2024-discopop",
        "Discovering Preference Optimization Algorithms with and for Large Language Models",
        "Lu, Chris",
        "2024",
    ),
    "2309.16240": (
        "wang-etal-2024-f-dpo",
        "Beyond Reverse {KL}: Generalizing Direct Preference Optimization with Diverse "
        "Divergence Constraints",
        "Wang, Chaoqi",
        "2024",
    ),
    "2409.06411": (
        "liu-etal-2024-ld-dpo",
        "Length Desensitization in Direct Preference Optimization",
        "Liu, Wei",
        "2024",
    ),
    "2401.08417": (
        "xu-etal-2024-cpo",
        "Contrastive Preference Optimization: Pushing the Boundaries of {LLM} "
        "Performance in Machine Translation",
        "Xu, Haoran",
        "2024",
    ),
    "2403.07691": (
        "hong-etal-2024-orpo",
        "{ORPO}: Monolithic Preference Optimization without Reference Model",
        "Hong, Jiwoo",
        "2024",
    ),
    "2402.10571": (
        "amini-etal-2024-odpo",
        "Direct Preference Optimization with an Offset",
        "Amini, Afra",
        "2024",
    ),
    "2502.00883": (
        "xiao-etal-2025-simper",
        "{SimPER}: A Minimalist Approach to Preference Alignment without Hyperparameters",
        "Xiao, Teng",
        "2025",
    ),
    "2501.03884": (
        "gupta-etal-2025-alphapo",
        "{AlphaPO}: Reward Shape Matters for {LLM} Alignment",
        "Gupta, Aman",
        "2025",
    ),
    "2412.14516": (
        "xiao-etal-2024-cal-dpo",
        "{Cal-DPO}: Calibrated Direct Preference Optimization for Language Model Alignment",
        "Xiao, Teng",
        "2024",
    ),
    "2503.07426": (
        "wu-etal-2025-repo",
        "{RePO}: {ReLU}-based Preference Optimization",
        "Wu, Junkang",
        "2025",
    ),
    "2506.08712": (
        "yoon-etal-2025-confpo",
        "{ConfPO}: Exploiting Policy Model Confidence for Critical Token Selection in "
        "Preference Optimization",
        "Yoon, Hee Suk",
        "2025",
    ),
    "2502.14340": (
        "shao-etal-2025-d2po",
        "Earlier Tokens Contribute More: Learning Direct Preference Optimization from "
        "Temporal Decay Perspective",
        "Shao, Ruichen",
        "2025",
    ),
    "2402.01306": (
        "ethayarajh-etal-2024-kto",
        "{KTO}: Model Alignment as Prospect Theoretic Optimization",
        "Ethayarajh, Kawin",
        "2024",
    ),
    "2404.04656": (
        "jung-etal-2024-bco",
        "Binary Classifier Optimization for Large Language Model Alignment",
        "Jung, Seungjae",
        "2024",
    ),
    "2406.05882": (
        "melnyk-etal-2024-aot",
        "Distributional Preference Alignment of {LLM}s via Optimal Transport",
        "Melnyk, Igor",
        "2024",
    ),
    "2407.08639": (
        "wu-etal-2024-beta-dpo",
        "$\\beta$-{DPO}: Direct Preference Optimization with Dynamic $\\beta$",
        "Wu, Junkang",
        "2024",
    ),
    "2410.10148": (
        "wu-etal-2024-alpha-dpo",
        "$\\alpha$-{DPO}: Adaptive Reward Margin is What Direct Preference Optimization Needs",
        "Wu, Junkang",
        "2024",
    ),
    "2406.11827": (
        "zhou-etal-2024-wpo",
        "{WPO}: Enhancing {RLHF} with Weighted Preference Optimization",
        "Zhou, Wenxuan",
        "2024",
    ),
    "2408.13518": (
        "yang-etal-2024-sepo",
        "Selective Preference Optimization via Token-Level Reward Function Estimation",
        "Yang, Kailai",
        "2024",
    ),
    "2410.04350": (
        "liu-etal-2025-tis-dpo",
        "{TIS-DPO}: Token-level Importance Sampling for Direct Preference Optimization "
        "with Estimated Weights",
        "Liu, Aiwei",
        "2025",
    ),
    "2506.14574": (
        "zhu-etal-2025-tgdpo",
        "{TGDPO}: Harnessing Token-Level Reward Guidance for Enhancing Direct Preference "
        "Optimization",
        "Zhu, Mingkang",
        "2025",
    ),
    "2505.18720": (
        "li-etal-2025-otpo",
        "Optimal Transport-Based Token Weighting Scheme for Enhanced Preference Optimization",
        "Li, Meng",
        "2025",
    ),
    "2505.19653": (
        "yang-etal-2025-ti-dpo",
        "Token-Importance Guided Direct Preference Optimization",
        "Yang, Ning",
        "2025",
    ),
    "2407.00617": (
        "zhang-etal-2024-inpo",
        "Iterative {Nash} Policy Optimization: Aligning {LLM}s with General Preferences "
        "via No-Regret Learning",
        "Zhang, Yuheng",
        "2024",
    ),
    "2302.08215": (
        "go-etal-2023-f-dpg",
        "Aligning Language Models with Preferences through f-divergence Minimization",
        "Go, Dongyoung",
        "2023",
    ),
    "2402.03300": (
        "shao-etal-2024-grpo",
        "{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        "Shao, Zhihong",
        "2024",
    ),
    "2404.18922": (
        "zhong-etal-2024-rto",
        "{DPO} Meets {PPO}: Reinforced Token Optimization for {RLHF}",
        "Zhong, Han",
        "2024",
    ),
    "1909.08593": (
        "ziegler-etal-2019-ppo",
        "Fine-Tuning Language Models from Human Preferences",
        "Ziegler, Daniel M.",
        "2019",
    ),
}
"""The papers of the related work's methods: key, title, first author, year."""


def arxiv_number(source: str) -> str | None:
    """Return the arXiv number in a method's `source`, or None."""
    found = re.search(r"\b\d{4}\.\d{4,5}\b", source)
    return None if found is None else found[0]


def bibtex(source: str) -> list[str]:
    """Return the BibTeX entries of a method: its own paper, if known, and SparsePO's.

    Args:
        source: the method's `source`, which names an arXiv number.
    """
    numbers = dict.fromkeys([arxiv_number(source), SPARSEPO])
    return [_entry(number) for number in numbers if number in _PAPERS or number in _RELATED]


def _entry(number: str) -> str:
    if number in _PAPERS:
        return _ENTRY.format(eprint=number, **_PAPERS[number])
    key, title, first_author, year = _RELATED[number]
    return _ENTRY.format(
        kind="article",
        key=key,
        title=title,
        authors=f"{first_author} and others",
        venue=f"journal = {{arXiv preprint arXiv:{number}}}",
        year=year,
        eprint=number,
    )
