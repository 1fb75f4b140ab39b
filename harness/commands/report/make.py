"""Makes the site: reads results, renders pages, and puts the finished folder in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.commands.publish.record import FOLDER, PublishedRun, find_published
from harness.commands.report.boards import BOARDS, Board
from harness.commands.report.experiment import experiment_view, picture_files, shown_files
from harness.commands.report.missing import missing_experiments, run_command
from harness.commands.report.published import published_view
from harness.commands.report.samples import write_samples
from harness.commands.report.templates import Templates
from harness.commands.result_file import FoundResults, Problem, find_results, read_checked
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.samples import samples_name
from harness.graph.files import explain_disk_error, replace_folder
from harness.render.columns import TUNED
from sparsepo.errors import UserError

MARKER = ".sparsepo-site"
"""A file in every site; a folder with other files and without it is not overwritten."""

_NO_PROFILES = ("paper", FOLDER)
"""Folders beside those of profiles."""

_BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the computation of a page raises if a result does not have the shape of this version."""


@dataclass
class Report:
    """What was made, and what was not."""

    index: Path
    """The first page."""
    shown: list[str] = field(default_factory=list)
    """Results on the site, as "tiny/table1"."""
    published: list[str] = field(default_factory=list)
    """Published runs on the site."""
    left_out: list[Problem] = field(default_factory=list)
    """What could not be shown, and why."""
    missing: int = 0
    """Experiments without a result."""


def make_report(
    results: Path, profiles: Sequence[str] | None, out: Path, published: Path | None = None
) -> Report:
    """Write the site; an older one in the same folder is replaced when all pages are finished.

    Args:
        results: the folder that `run --out` names.
        profiles: names of profiles; None for all that have results.
        out: the site's folder.
        published: the folder of published runs; None for `published` in `results`.

    Returns:
        What is on the site and what had to be left out.

    Raises:
        UserError: there are no results, or the folder cannot be written or has other files.
    """
    _require_site_or_nothing(out)
    place = results / FOLDER if published is None else published
    runs, damaged = find_published(place)
    if profiles is not None:
        runs = [run for run in runs if run.record["profile"] in profiles]
    names = _profiles(results, profiles, {run.record["profile"] for run in runs})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            site = Site(staging, results, names)
            site.write(runs, damaged)
            replace_folder(staging, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise explain_disk_error(error, out) or UserError(
            f"The site cannot be written to {out} ({error.strerror}); choose another --out."
        ) from None
    return Report(out / "index.html", site.shown, site.published, site.left_out, site.missing)


def _profiles(results: Path, wanted: Sequence[str] | None, published: Collection[str]) -> list[str]:
    """Return the profiles with results of the user's; those of published runs need none."""
    try:
        there = sorted(
            path.name
            for path in results.iterdir()
            if path.is_dir() and not path.name.startswith(".") and path.name not in _NO_PROFILES
        )
    except FileNotFoundError:
        if published and wanted is None:
            return []
        raise UserError(
            f"{results} does not exist; run an experiment first, or name the folder with --results."
        ) from None
    except OSError as error:
        raise UserError(f"{results} cannot be read: {error.strerror}.") from None
    chosen = there if wanted is None else list(dict.fromkeys(wanted))
    for name in chosen:
        if name not in there and name not in published:
            raise UserError(
                f"{results} has no results of the profile {name}; there are: "
                f"{', '.join(there) or 'none'}."
            )
    if not chosen and not published:
        raise UserError(
            f"{results} has no results; run an experiment first, such as "
            "python -m harness run --table 1."
        )
    return [name for name in chosen if name in there]


def _require_site_or_nothing(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose another --out.")
    try:
        taken = out.is_dir() and not (out / MARKER).is_file() and any(out.iterdir())
    except OSError as error:
        raise UserError(f"{out} cannot be read: {error.strerror}.") from None
    if taken:
        raise UserError(f"{out} has files that are not of a site; choose another --out.")


class Site:
    """The site in the making."""

    def __init__(self, folder: Path, results: Path, profiles: Sequence[str]) -> None:
        self.folder, self.results, self.profiles = folder, results, profiles
        self.templates = Templates()
        self.shown: list[str] = []
        self.published: list[str] = []
        self.left_out: list[Problem] = []
        self.missing = 0
        self._boards: dict[str | None, list[Board]] = {None: [], FOLDER: []}

    def write(self, runs: Sequence[PublishedRun], damaged: Sequence[Problem]) -> None:
        """Write all pages.

        Args:
            runs: the published runs.
            damaged: what is wrong with those that are not shown.
        """
        self.templates.copy_assets(self.folder / "assets")
        (self.folder / MARKER).write_text("", encoding="utf-8")
        sections = [self._section(profile) for profile in self.profiles]
        published = self._published(runs, damaged)
        self._page("index.html", "index.html", sections=sections, published=published)

    def _published(
        self, runs: Sequence[PublishedRun], damaged: Sequence[Problem]
    ) -> dict[str, Any]:
        """Write the pages of published runs; return their part of the index."""
        (self.folder / FOLDER).mkdir()
        problems = list(damaged)
        entries = []
        for run in runs:
            profile, name = run.record["profile"], run.record["folder"]
            id = run.record["experiment"]
            own = self.results / profile / name / f"{id}.json"
            try:
                shown = published_view(run, own if f"{profile}/{name}" in self.shown else None)
            except _BROKEN as error:
                reason = f"It does not have the fields of this version ({type(error).__name__})."
                problems.append(Problem(f"{FOLDER}/{run.name}", reason))
                continue
            entry = self._experiment(FOLDER, run.name, run.folder, run.result, problems, shown)
            if entry is not None:
                entries.append({**entry, **shown})
                self.published.append(run.name)
        self.left_out += problems
        return {"entries": entries, "left_out": problems}

    def _section(self, profile: str) -> dict[str, Any]:
        """Write the pages of a profile; return its part of the index."""
        found = find_results(self.results, profile)
        add_variants(found, self.results / profile, profile)
        problems = [Problem(f"{profile}/{one.name}", one.reason) for one in found.problems]
        (self.folder / profile).mkdir()
        self._boards[profile] = boards = []
        for board in BOARDS:
            if self._board(board, profile, problems):
                boards.append(board)
        entries = []
        for name in sorted(found.results, key=lambda name: _place(name, found.results[name])):
            place = self.results / profile / name
            entry = self._experiment(profile, name, place, found.results[name], problems)
            if entry is not None:
                entries.append(entry)
                self.shown.append(f"{profile}/{name}")
        absent = missing_experiments(profile, {entry["name"] for entry in entries})
        self.missing += len(absent)
        self.left_out += problems
        return {
            "profile": profile,
            "entries": entries,
            "missing": absent,
            "left_out": problems,
            "boards": boards,
        }

    def _experiment(
        self,
        section: str,
        name: str,
        place: Path,
        result: Mapping[str, Any],
        problems: list[Problem],
        published: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Write the pages of a result; return its line of the index, None if left out.

        Args:
            section: the folder of its pages: its profile, or that of published runs.
            name: of its pages.
            place: the folder of its files.
            result: its JSON.
            problems: what could not be shown, to which this adds.
            published: what is shown of a published run.
        """
        try:
            view = experiment_view(result)
            names = shown_files(place, result["id"], all_of_them=published is not None)
            files = self._copied(place, section, name, names, problems)
            samples = self._samples(section, name, place, result, view, problems)
            tuned = place.name.endswith(TUNED)
            self._page(
                "experiment.html",
                f"{section}/{name}.html",
                name=name,
                view=view,
                pictures=picture_files(files),
                files=files,
                samples=samples,
                command=run_command(result["id"], result["profile"], tuned=tuned),
                published=published,
            )
        except _BROKEN as error:
            reason = (
                f"It was not written by this version of the command ({type(error).__name__}); "
                f"run {result['id']} again."
            )
            problems.append(Problem(f"{section}/{name}", reason))
            (self.folder / section / f"{name}.html").unlink(missing_ok=True)
            return None
        picture = next(iter(picture_files(files)), None)
        return {"name": name, "samples": samples, "picture": picture, **view["summary"]}

    def _copied(
        self, place: Path, section: str, name: str, files: Sequence[str], problems: list[Problem]
    ) -> list[str]:
        """Copy a result's files; return the names of those that could be read."""
        target = self.folder / section / "files" / name
        target.mkdir(parents=True)
        copied = []
        for file in files:
            try:
                content = (place / file).read_bytes()
            except OSError as error:
                reason = f"{place / file} cannot be read: {error.strerror}."
                problems.append(Problem(f"{section}/{name}, {file}", reason))
                continue
            (target / file).write_bytes(content)
            copied.append(file)
        return copied

    def _samples(
        self,
        section: str,
        name: str,
        place: Path,
        result: Mapping[str, Any],
        view: Mapping[str, Any],
        problems: list[Problem],
    ) -> int:
        """Write the viewer of an experiment's samples; return their number, 0 if there are none."""
        file = place / samples_name(result["id"])
        if not file.is_file():
            return 0
        try:
            written = write_samples(file, self.folder / section / "samples" / name)
        except UserError as error:
            problems.append(Problem(f"{section}/{name}, samples", str(error)))
            return 0
        except _BROKEN:
            reason = f"{file} does not have the fields of this version; run its experiment again."
            problems.append(Problem(f"{section}/{name}, samples", reason))
            return 0
        if written.count:
            self._page(
                "samples.html", f"{section}/{name}.samples.html", name=name, view=view, made=written
            )
        return written.count

    def _board(self, board: Board, profile: str, problems: list[Problem]) -> bool:
        """Write the leaderboard's page or that of the claims; return whether there is one."""
        try:
            shown = board.make(self.results, profile)
            if shown is None:
                return False
            self._page(board.template, f"{profile}/{board.name}.html", board=shown)
        except UserError as error:
            problems.append(Problem(f"{profile}/{board.name}", str(error)))
            return False
        except _BROKEN as error:
            reason = f"It does not have the fields that its page shows ({type(error).__name__})."
            problems.append(Problem(f"{profile}/{board.name}", reason))
            (self.folder / profile / f"{board.name}.html").unlink(missing_ok=True)
            return False
        return True

    def _page(self, template: str, place: str, **values: Any) -> None:
        profile = place.partition("/")[0] if "/" in place else None
        root = "../" if profile else ""
        shared = {"root": root, "profile": profile, "boards": self._boards[profile]}
        text = self.templates.render(template, {**shared, **values})
        (self.folder / place).write_text(text, encoding="utf-8", errors="backslashreplace")


def add_variants(found: FoundResults, folder: Path, profile: str) -> None:
    """Add the results of variants, which have a folder of their own, such as figure3-common.

    Args:
        found: the other results.
        folder: the profile's.
        profile: its name.
    """
    for id in EXPERIMENTS:
        for place in sorted(folder.glob(f"{id}-*")):
            file = place / f"{id}.json"
            seen = {*found.results, *(problem.name for problem in found.problems), *EXPERIMENTS}
            # A folder without rights is among the problems.
            if place.name in seen or not file.is_file():
                continue
            try:
                found.results[place.name] = read_checked(file, profile)
            except UserError as error:
                found.problems.append(Problem(place.name, str(error)))


def _place(name: str, result: Mapping[str, Any]) -> tuple[int, str]:
    """The order of the catalogue, then what it does not know."""
    known = list(EXPERIMENTS)
    return (known.index(result["id"]) if result["id"] in known else len(known), name)
