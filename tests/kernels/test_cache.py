"""The cache of objects where it cannot be written, and where it was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import BuildError
from edgec.kernels import INSTRUCTION_SETS, building
from edgec.kernels.copy import Copy

WASM = INSTRUCTION_SETS["wasm32"]
KERNEL = Copy(2, 4, True)


def build() -> Path:
    return building.build_objects([KERNEL], WASM)[KERNEL]


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"\[cache\] got Not a directory.*set EDGEC_CACHE"):
        build()


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(building, "_write_whole", full)
    with pytest.raises(BuildError, match=r"\[cache\] got No space left on device"):
        build()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(building.CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BuildError, match=r"home directory.*set EDGEC_CACHE"):
        building.cache_folder()


@pytest.mark.parametrize("note", ["", "gone.o"])
def test_a_note_that_names_no_object(
    note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that lost power may leave it behind."""
    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path))
    made = build()
    (written,) = made.parent.glob("*.note")
    written.write_text(note)
    assert build() == made
    assert made.is_file()
