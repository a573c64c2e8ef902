"""Writing a folder as one step: into a temporary sibling, which then takes its place.

Whatever happens before the last step (an error, a kill, no space left) leaves what stood there
before. A temporary folder holds a lock while its build runs; one that nobody locks was left by a
killed build and is removed by the next build into the same place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgec.errors import BuildError, EdgecError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TELLS_NO_SPACE = re.compile(
    r"no space left|disk quota|file too large|os error (?:28|122|27)\b", re.I
)
MARKS = ("release.json", "summary.json")  # one of these, of edgec, makes a folder one of ours


@contextlib.contextmanager
def publishing(out: Path, force: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends without an error.

    force   replace a folder that edgec has not written
    Raises BuildError where `out` cannot be written or replaced, and for an OSError of the block (no
    space left, no permission), after removing the temporary folder.
    """
    out = Path(os.path.abspath(out))
    with _as_build_errors(out):
        check_replaceable(out, force)
        out.parent.mkdir(parents=True, exist_ok=True)
        _recover(out)
        remove_stale(out)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_prefix(out)}build-", dir=out.parent))
    lock = _lock(scratch)
    try:
        with _as_build_errors(out):
            yield scratch
            check_replaceable(out, force)
            scratch.chmod(0o755)
            _replace(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_writable(out: Path, force: bool = False) -> None:
    """Raise BuildError where `publishing` would, long before it is needed. Leaves no trace."""
    out = Path(os.path.abspath(out))
    with _as_build_errors(out):
        check_replaceable(out, force)
        parent = next(p for p in out.parents if p.exists())
        try:
            os.rmdir(tempfile.mkdtemp(prefix=f"{_prefix(out)}build-", dir=parent))
        except OSError as error:
            error.filename = str(out)
            raise


def check_replaceable(out: Path, force: bool) -> None:
    """Raise BuildError where `out` holds something that a build must not replace."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise BuildError("out", f"{out.name}, which is no folder", "a folder, or a new name")
    if force or not out.exists() or any(_is_mark(out / n) for n in MARKS):
        return
    if any(out.iterdir()):
        got = f"{out.name}, a folder with other files"
        raise BuildError("out", got, "a release or a new name", "--force replaces the folder")


def _is_mark(path: Path) -> bool:
    """Whether edgec wrote the file; other programs have files of these names too."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and str(data.get("format", "")).startswith("edgec-")


@contextlib.contextmanager
def _as_build_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise no_space(out) from error
        name = Path(os.fsdecode(error.filename)).name if error.filename else out.name
        got = f"{name}: {error.strerror or error}"
        raise BuildError("build", got, "files and folders that can be read and written") from error
    except EdgecError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_SPACE:
            raise no_space(out) from error
        raise
    except Exception as error:
        if _TELLS_NO_SPACE.search(str(error)):  # of a library that has its own error classes
            raise no_space(out) from error
        raise


def no_space(out: Path) -> BuildError:
    need = f"space beside {out.name} for the new release"
    do = "free some, or choose another --out; what stood there before is untouched"
    return BuildError("out", "no space left on the device", need, do)


# ------------------------------------------------------------------ the last step
def _replace(scratch: Path, out: Path) -> None:
    """`scratch` takes the place of `out`: one exchange where the system can, else two renames."""
    if not out.exists():
        scratch.rename(out)
        return
    if _exchange(scratch, out):
        shutil.rmtree(scratch, ignore_errors=True)
        return
    previous = out.parent / f"{_prefix(out)}previous"
    shutil.rmtree(previous, ignore_errors=True)
    out.rename(previous)
    scratch.rename(out)
    shutil.rmtree(previous, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step (Linux's renameat2); False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), exchange) == 0)


def _recover(out: Path) -> None:
    """Undo the first of two renames where the second never came."""
    previous = out.parent / f"{_prefix(out)}previous"
    if previous.is_dir() and not out.exists():
        previous.rename(out)


# ------------------------------------------------------------------ folders of killed builds
def _prefix(out: Path) -> str:
    return f".{out.name}.edgec-"


def remove_stale(out: Path) -> list[Path]:
    """Remove what killed builds into `out` left beside it; returns the removed folders."""
    removed = []
    for folder in out.parent.glob(f"{_prefix(out)}build-*"):
        lock = _lock(folder)
        if lock is None:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        removed.append(folder)
    return removed


def _lock(folder: Path) -> int | None:
    """A lock on `folder` that ends with this process; None where another process holds it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: folders of killed builds stay
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
