"""Objects of C files that are kept: made anew when anything that they were made from changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.kernels import building
from edgec.targets.native.toolchain import host_triple, toolchain


@pytest.mark.parametrize("changed", ["a.c", "beside.h", "include/deeper/given.h"])
def test_what_an_object_depends_on(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the headers beside it, and those of the folders of headers."""
    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path / "cache"))
    work = tmp_path / "work"
    (work / "include" / "deeper").mkdir(parents=True)
    (work / "beside.h").write_text("enum { BESIDE = 1 };\n")
    (work / "include/deeper/given.h").write_text("enum { GIVEN = 1 };\n")
    text = (
        '#include "beside.h"\n#include "deeper/given.h"\nint sum(void) { return BESIDE + GIVEN; }'
    )
    (work / "a.c").write_text(text)
    compiler = toolchain(host_triple())
    first = compiler.compile(work / "a.c", [work / "include"])
    assert compiler.compile(work / "a.c", [work / "include"]) == first
    (work / changed).write_text((work / changed).read_text().replace("1", "2") + "\n")
    assert compiler.compile(work / "a.c", [work / "include"]) != first
