"""Hooks of the documentation site: pages may link to any file of the repository, as on GitHub.

A file outside docs/ that a page links to becomes part of the site, under `repository/`. A link to a
folder is replaced by its text, because the site has no page for it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from properdocs.structure.files import File, Files

LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files outside docs/ that the pages link to, directly or through one another."""
    docs = Path(config.docs_dir)
    pages = [docs / file.src_uri for file in files.documentation_pages()]
    added: set[str] = set()
    while pages:
        page = pages.pop()
        for _, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            uri = _uri(path, docs)
            if path.is_file() and uri.startswith("repository/") and uri not in added:
                added.add(uri)
                files.append(File.generated(config, uri, abs_src_path=str(path)))
                if path.suffix == ".md":
                    pages.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Rewrite links relative to the page's file as links relative to its place in the site."""
    docs = Path(config.docs_dir)
    source = Path(page.file.abs_src_path)
    depth = "../" * page.file.src_uri.count("/")

    def rewrite(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        path = (source.parent / target).resolve()
        if path.is_dir():
            return text
        # The strict build reports links to missing files.
        return f"[{text}]({depth}{_uri(path, docs)}{anchor or ''})" if path.exists() else link[0]

    return LINK.sub(rewrite, markdown)


def _uri(path: Path, docs: Path) -> str:
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    if path.is_relative_to(docs.parent):
        return f"repository/{path.relative_to(docs.parent).as_posix()}"
    return path.as_posix()
