"""Every architecture of the public list as a native library, executed at several sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgec.kernels.calling import host_sets
from edgec.target import Support
from edgec.targets.native import Native
from edgec.targets.native.platforms import PLATFORMS
from edgec.targets.native.run import NativeExecutable
from edgec.targets.native.toolchain import host_triple
from tests.targets.captured_models import forms, names

# One of each kind.
DEFAULT = {"bert", "gpt2_step", "lstm_tagger", "mobilenet_v2"}
#: Kernels are compiled for the instruction set that executes them, and one executes each form.
SETS = {"captured": host_sets()[-1], "compressed": host_sets()[0]}


@pytest.mark.parametrize("name", names(DEFAULT))
def test_architecture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in forms(name):
        here = dataclasses.replace(PLATFORMS[host_triple()], sets=(SETS[model.form],))
        monkeypatch.setitem(PLATFORMS, host_triple(), here)
        folder = tmp_path / model.form
        folder.mkdir()
        target = Native()
        artifact = target.emit(target.legalize(model.program).verify(), folder)
        kinds = {s.support for s in artifact.stored.values()}
        assert kinds <= {Support.NATIVE, Support.DECODED}
        model.check(NativeExecutable(folder))
