"""Every architecture of the public list as an ONNX file: checked, and executed at several sizes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgec.target import Support
from edgec.targets.onnx import Onnx
from tests.targets.captured_models import forms, names

# One of each kind.
DEFAULT = {"bert", "gpt2_step", "lstm_tagger", "marian_decoder_step", "mobilenet_v2", "unet"}


@pytest.mark.parametrize("name", names(DEFAULT))
def test_architecture(name: str, tmp_path: Path) -> None:
    for model in forms(name):
        target = Onnx()
        artifact = target.emit(target.legalize(model.program).verify(), tmp_path)
        onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
        kinds = {s.support for s in artifact.stored.values()}
        assert kinds <= {Support.NATIVE, Support.DECODED}
        model.check(Onnx.load(tmp_path))
