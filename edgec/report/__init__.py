"""report.html: a release, or several variants side by side, as one page that needs no network.

The pages are made from what a release folder holds (release.json, summary.json, the evidence), so
they can be made again at any time, and equal folders give equal bytes.
"""

from __future__ import annotations

from pathlib import Path

NAME = "report.html"

__all__ = ["NAME", "write"]


def write(folder: Path) -> Path:
    """Write report.html into a release, or into the folder of several variants; returns its path.

    Raises FormatError for a folder that is neither or is damaged, BuildError without jinja2.
    """
    from edgec.release.summary import NAME as SUMMARY

    page = _overview(folder) if (folder / SUMMARY).is_file() else _release(folder)
    path = folder / NAME
    path.write_bytes(page.encode("utf-8", "backslashreplace"))
    return path


def _release(folder: Path) -> str:
    from edgec.release.manifest import load_manifest
    from edgec.report.page import render
    from edgec.report.release import context
    from edgec.report.samples import read_texts

    return render("report.html.j2", context(load_manifest(folder), read_texts(folder)))


def _overview(folder: Path) -> str:
    from edgec.release.manifest import load_manifest
    from edgec.release.summary import load_summary
    from edgec.report.overview import context
    from edgec.report.page import render
    from edgec.report.samples import read_texts

    summary = load_summary(folder)
    manifests = {row.name: load_manifest(folder / row.name) for row in summary.variants}
    texts = {row.name: read_texts(folder / row.name) for row in summary.variants}
    return render("overview.html.j2", context(summary, manifests, texts))
