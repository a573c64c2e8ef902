"""Every architecture of the public list as a native library, executed at several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.target import Support
from edgec.targets.native import Native
from tests.targets.captured_models import forms, names

# One of each kind.
DEFAULT = {"bert", "gpt2_step", "lstm_tagger", "mobilenet_v2"}


@pytest.mark.parametrize("name", names(DEFAULT))
def test_architecture(name: str, tmp_path: Path) -> None:
    for model in forms(name):
        folder = tmp_path / model.form
        folder.mkdir()
        target = Native()
        artifact = target.emit(target.legalize(model.program).verify(), folder)
        kinds = {s.support for s in artifact.stored.values()}
        assert kinds <= {Support.NATIVE, Support.DECODED}
        model.check(Native.load(folder))
