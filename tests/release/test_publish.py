"""A build replaces a folder in one step, or leaves it as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgec.errors import BuildError, PassError
from edgec.release import publish
from edgec.release.publish import publishing

OLD = '{"format": "edgec-release", "verdict": "ACCEPT"}'

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A release that stood there before."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "release.json").write_text(OLD)
    (folder / "old.bin").write_text("old")
    return folder


def untouched(out: Path) -> bool:
    names = sorted(p.name for p in out.iterdir())
    return names == ["old.bin", "release.json"] and (out / "release.json").read_text() == OLD


def alone(out: Path) -> bool:
    """Nothing lies beside the folder."""
    return list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_the_new_folder_takes_the_place_of_the_old(out, exchange, monkeypatch) -> None:
    if not exchange:
        monkeypatch.setattr(publish, "_exchange", lambda a, b: False)
    with publishing(out) as scratch:
        (scratch / "release.json").write_text("new")
        assert untouched(out)
    assert [p.name for p in out.iterdir()] == ["release.json"]
    assert (out / "release.json").read_text() == "new"
    assert alone(out)
    assert out.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_not_there_is_made_with_its_parents(tmp_path) -> None:
    with publishing(tmp_path / "a" / "b") as scratch:
        (scratch / "release.json").write_text("new")
    assert (tmp_path / "a" / "b" / "release.json").read_text() == "new"


def test_an_error_leaves_the_old_release(out) -> None:
    with pytest.raises(PassError), publishing(out) as scratch:
        (scratch / "half.bin").write_text("half")
        raise PassError("quantize-weights", "bits=9", "2 to 8")
    assert untouched(out)
    assert alone(out)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_no_space_left_is_said_and_leaves_the_old_release(out, error) -> None:
    with pytest.raises(BuildError, match=r"no space left on the device.*untouched"):
        with publishing(out):
            raise error
    assert untouched(out)
    assert alone(out)


def test_a_file_that_may_not_grow_is_no_space_too(out) -> None:
    """A real write that the system refuses, in a process with a limit on the size of files."""
    code = f"""
        import resource, runpy, signal, sys
        from pathlib import Path
        from edgec.errors import BuildError
        publishing = runpy.run_path("edgec/release/publish.py")["publishing"]  # without torch
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            with publishing(Path({str(out)!r})) as scratch:
                (scratch / "weights.bin").write_bytes(bytes(10_000))
        except BuildError as error:
            print(error)
            sys.exit(2)
    """
    done = run(code)
    assert done.returncode == 2, done.stderr
    assert "no space left" in done.stdout
    assert untouched(out)
    assert alone(out)


def test_another_error_of_the_system_is_a_build_error(out) -> None:
    with pytest.raises(BuildError, match="got x: No such file or directory"):
        with publishing(out) as scratch:
            (scratch / "missing" / "x").write_text("x")
    assert untouched(out)


def test_a_killed_build_leaves_the_old_release_and_the_next_one_cleans_up(out) -> None:
    code = f"""
        import runpy, time
        from pathlib import Path
        publishing = runpy.run_path("edgec/release/publish.py")["publishing"]  # without torch
        with publishing(Path({str(out)!r})) as scratch:
            (scratch / "release.json").write_text("half")
            print("ready", flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(out.parent.iterdir())) == 2
    with publishing(out) as scratch:
        (scratch / "release.json").write_text(OLD)
        (scratch / "old.bin").write_text("old")
    assert len(list(out.parent.iterdir())) == 2, "a build that still runs is left alone"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert untouched(out)
    with publishing(out) as scratch:
        assert len(list(out.parent.iterdir())) == 2, "the killed build's folder is gone"
        (scratch / "release.json").write_text("new")
    assert alone(out)


def test_a_kill_between_two_renames_is_undone(out, monkeypatch) -> None:
    """Without an exchange there is an instant with no folder: the next build restores it."""
    out.rename(out.parent / ".out.edgec-previous")
    with pytest.raises(PassError), publishing(out):
        raise PassError("x", "y")
    assert untouched(out)


def test_folders_of_others_are_not_replaced_unless_forced(tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(BuildError, match=r"a folder with other files.*--force"):
        with publishing(precious):
            pytest.fail("refused before anything is built")
    assert (precious / "thesis.txt").read_text() == "years"
    with publishing(precious, force=True) as scratch:
        (scratch / "release.json").write_text("new")
    assert [p.name for p in precious.iterdir()] == ["release.json"]


def test_files_are_not_folders(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/below"):
        with pytest.raises(BuildError), publishing(tmp_path / name):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BuildError, match="Permission denied"), publishing(tmp_path / "out"):
            pass
    finally:
        tmp_path.chmod(0o700)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_file_of_our_name_by_another_program_does_not_give_a_folder_away(tmp_path: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / "release.json").write_text('{"npm": 1}')
    (out / "summary.json").write_text("not even JSON")
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="a folder with other files"):
        with publishing(out):
            raise AssertionError("the build must not begin")
    assert (out / "thesis.txt").read_text() == "years of work"
