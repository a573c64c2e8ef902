"""What may not be in any file of the repository: paths of one machine and package indexes.

Binary files are read too: a vocabulary or a checkpoint carries the arguments it was trained with.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN = {
    "a path of a build machine": rb"/(?:work|opt/wheels|opt/pypi[\w-]*|root/\.\w+)/",
    "a folder beside the repository": rb"\.\./shared\b",
    "an option that names a package index": rb"--(?:extra-)?index[-]url|--find-links[= ]/",
    "a setting that names a package index": rb"(?:PIP|UV)_(?:EXTRA_)?INDEX(?:_URL)?=",
    "the address of a package index": (
        rb"https?://[\w.:@-]*(?:pypi\.|pythonhosted\.|download\.pytorch\.|registry\.npmjs\.)"
        rb"|https?://[^\s\"']+/simple/?(?=[\s\"']|$)"
        rb"|\"resolved\": *\"http"
    ),
}

# Sentences from the catalogs of other programs, and training data of the translator, are quoted as
# they are; a home folder in there is somebody's example. Elsewhere it is this machine's.
HOME = rb"/(?:home|Users)/[a-z][\w-]*/"
QUOTES_OTHERS = (".tsv", ".txt", ".en", ".de")


def tracked_files() -> list[str]:
    if not (ROOT / ".git").exists():  # unpacked from an sdist
        return [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file()]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [name for name in listed.stdout.decode().split("\0") if name]


def problems_in(name: str, content: bytes) -> list[str]:
    """Each forbidden thing in a file, with its line."""
    patterns = dict(FORBIDDEN)
    if not (name.startswith("models/") and name.endswith(QUOTES_OTHERS)):
        patterns["a home folder"] = HOME
    found = []
    for what, pattern in patterns.items():
        for match in re.finditer(pattern, content):
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{name}:{line}: {what}: {match.group()!r}")
    return found


def test_no_file_names_a_machine_or_an_index() -> None:
    found = []
    for name in tracked_files():
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            found += problems_in(name, path.read_bytes())
    assert not found, "\n".join(found)


def test_no_link_leaves_the_repository() -> None:
    links = [path for name in tracked_files() if (path := ROOT / name).is_symlink()]
    assert links
    assert [link for link in links if not link.resolve().is_relative_to(ROOT)] == []


def test_constraints_are_names_and_versions() -> None:
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.]+", line)] == []
    assert any(line.startswith("torch==2.13.") for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "see /wo|rk/main/README.md",
        "find-links = /opt/wh|eels/",
        "notes are in ../sh|ared/notes",
        "pip install --extra-ind|ex-url X",
        "export PIP_INDEX_U|RL=X",
        "https://py|pi.org/project/x",
        "http://10.0.0.1:8080/sim|ple/",
        '"resol|ved": "http://host/x.tgz"',
        "cache in /ho|me/somebody/.cache",
    ],
)
def test_the_patterns_find(text: str) -> None:
    """The bar keeps the examples from being found in this file."""
    content = "first line\n" + text.replace("|", "")
    assert problems_in("README.md", content.encode())[0].startswith("README.md:2: ")


@pytest.mark.parametrize(
    "text",
    ["a simple/plain path", "/usr/share/locale", "https://arxiv.org/abs/2104.08378", "work/in"],
)
def test_the_patterns_leave_ordinary_text(text: str) -> None:
    assert problems_in("README.md", text.encode()) == []
