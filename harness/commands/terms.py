"""Terms of use of packaged models: shown, agreed to, and remembered in the store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.config.request import RunRequest
from harness.domains.common.packaged import PACKAGED, PackagedModel
from harness.domains.common.stages import CONVERT
from harness.graph.files import content_hash, pretty_json, write_files
from harness.graph.stages import Stage, topological
from harness.graph.store import Store
from sparsepo.errors import UserError, did_you_mean

AGREED = "terms.json"
"""File of a store: name of a model → the hash of the terms that were agreed to."""


def require_terms(targets: Iterable[Stage], request: RunRequest) -> None:
    """Show the terms of the models that a run uses, and have them agreed to once for each store.

    Args:
        targets: the run's stages.
        request: the user's options; what it accepts beyond these models is not looked at.

    Raises:
        UserError: terms are not agreed to.
    """
    for model in _with_terms(targets):
        terms = model.terms_file()
        if terms is None:
            raise UserError(
                f"The terms of use of {model.title} are missing from its package; run "
                f"`{model.install}` again."
            )
        _require(model, terms, request)


def with_own_terms(targets: Iterable[Stage], request: RunRequest) -> RunRequest:
    """Return a request that accepts the terms of a run's own models alone.

    Args:
        targets: the run's stages.
        request: the user's options.
    """
    own = [model.name for model in _with_terms(targets)]
    return replace(
        request, accept_terms=tuple(name for name in request.accept_terms if name in own)
    )


def check_accepted(targets: Iterable[Stage], accepted: Iterable[str]) -> None:
    """Check that the terms that a user agrees to are those of models that are used.

    Args:
        targets: the stages of all experiments that are run.
        accepted: names of models.

    Raises:
        UserError: no stage uses one of them.
    """
    needed = [model.name for model in _with_terms(targets)]
    for name in accepted:
        if name not in needed:
            hint = did_you_mean(name, needed)
            raise UserError(
                f"--accept-terms {name}: this run uses no model of that name with terms of use; "
                f"leave it out.{hint}"
            )


def _with_terms(targets: Iterable[Stage]) -> list[PackagedModel]:
    """Return the models of stages that have terms of use."""
    named = {
        str(stage.config["packaged"])
        for stage in topological(targets)
        if stage.function == CONVERT and stage.config["packaged"] is not None
    }
    return [one for name, one in PACKAGED.items() if name in named and one.terms is not None]


def _require(model: PackagedModel, terms: Path, request: RunRequest) -> None:
    agreed = _agreed(request.store)
    current = content_hash(terms)
    if agreed.get(model.name) == current:
        return
    if model.name not in request.accept_terms:
        raise UserError(
            f"{model.title} and what is trained from it may be used under the {model.licence} "
            f"alone; read {terms}, and agree once with --accept-terms {model.name}."
        )
    if not request.quiet:
        print(f"{model.title}: agreed to the {model.licence} in {terms}.", file=sys.stderr)
    Store(request.store)
    write_files(request.store, {AGREED: pretty_json({**agreed, model.name: current})})


def _agreed(store: Path) -> dict[str, str]:
    """Return what was agreed to in a store; a damaged file is as none."""
    try:
        found = json.loads((store / AGREED).read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
