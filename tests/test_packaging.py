"""A wheel, a wheel by way of the sdist and an editable install hold the same importable package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("passes", "targets", "runtime", "models")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Run by an interpreter that has edgec installed: where it is, and every file that belongs to it.
INSPECT = """
import importlib, json, os, edgec
linked = ["edgec.passes", "edgec.targets", "edgec.runtime", "edgec.models"]
for name in linked + ["edgec.cli", "edgec.ir", "edgec.ops"]:
    importlib.import_module(name)
root = os.path.dirname(edgec.__file__)
files = [
    os.path.relpath(os.path.join(folder, name), os.path.dirname(root))
    for folder, folders, names in os.walk(root, followlinks=True)
    for name in names
    if "__pycache__" not in folder
]
print(json.dumps({"version": edgec.__version__, "root": root, "files": sorted(files)}))
"""


@dataclass(frozen=True)
class Installed:
    """An environment of its own with edgec in it."""

    python: Path
    version: str
    root: Path
    files: tuple[str, ...]


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command; its error text is the failure."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, links kept: what a fresh clone has."""
    copy = tmp_path_factory.mktemp("tree") / "edgec"
    listed = run("git", "ls-files", "-z", "--cached", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    return copy


def build_wheel(source: Path, out: Path) -> Path:
    """A wheel of a folder or an sdist, built with the backend that is installed here."""
    out.mkdir(parents=True)
    flags = ("--no-build-isolation", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *flags, "-w", out, source, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def install(folder: Path, *what: str | Path) -> Installed:
    """Install into a fresh environment that sees this one's dependencies, but not its edgec."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    flags = ("--no-build-isolation", "--no-deps", "--no-index", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", python, "install", *flags, *what, cwd=folder)
    found = json.loads(run(python, "-c", INSPECT, cwd=folder))
    return Installed(python, found["version"], Path(found["root"]), tuple(found["files"]))


def package_files(wheel: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(wheel) as archive:
        return tuple(sorted(n for n in archive.namelist() if n.startswith("edgec/")))


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tree, tmp_path_factory.mktemp("wheel") / "out")


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, str(out), cwd=tree)
    (found,) = out.glob("*.tar.gz")
    return found


def expected_files(tree: Path) -> tuple[str, ...]:
    """What the package must hold, from the tree alone: edgec/ and the linked folders under it."""
    places = {top: f"edgec/{top}" for top in LINKED} | {"edgec": "edgec"}
    return tuple(
        sorted(
            f"{place}/{path.relative_to(tree / top).as_posix()}"
            for top, place in places.items()
            for path in (tree / top).rglob("*")
            if path.is_file() and not any(p.is_symlink() for p in path.parents)
        )
    )


def test_the_links_are_committed(tree: Path) -> None:
    for name in LINKED:
        link = tree / "edgec" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


def test_wheel_holds_the_whole_package_for_every_platform(tree: Path, wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert package_files(wheel) == expected_files(tree)


def test_wheel_adds_no_other_top_level_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgec"}


def test_wheel_by_way_of_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    assert package_files(build_wheel(sdist, tmp_path / "out")) == package_files(wheel)


def test_sdist_has_no_link_and_no_file_twice(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert not [member.name for member in members if member.issym() or member.islnk()]
    assert len(names) == len(set(names))
    assert not [n for n in names if n.split("/")[1:3] in [["edgec", top] for top in LINKED]]


def test_wheel_from_a_checkout_without_links_is_the_same(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    """Some archives and file systems turn a link into a small text file."""
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    for name in LINKED:
        (copy / "edgec" / name).unlink()
        (copy / "edgec" / name).write_text(f"../{name}")
    assert package_files(build_wheel(copy, tmp_path / "out")) == package_files(wheel)


def test_wheel_and_editable_install_import_the_same_files(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    installed = install(tmp_path / "wheel", wheel)
    editable = install(tmp_path / "editable", "-e", tree)
    assert tmp_path / "wheel" in installed.root.parents
    assert editable.root == tree / "edgec"
    assert installed.version == editable.version
    assert installed.files == editable.files == package_files(wheel)


def test_the_script_runs_from_anywhere_and_from_the_repository(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    script = install(tmp_path / "env", wheel).python.parent / "edgec"
    for place in (tmp_path, tree):
        assert "build" in run(script, "--help", cwd=place)
