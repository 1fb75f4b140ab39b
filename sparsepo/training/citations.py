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
    return [
        _ENTRY.format(eprint=number, **_PAPERS[number]) for number in numbers if number in _PAPERS
    ]
