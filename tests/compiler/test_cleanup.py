"""The clean-up of a build is held to what the captured graph computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

import edgec
from edgec.compiler import cleanup
from edgec.context import NOTHING, Context
from edgec.errors import PassError, ValidationError
from edgec.ir import Constant, Dense, Exactness
from edgec.ir.program import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.transform import Pass, PassResult, Pipeline
from tests.programs import classifier


@dataclass(frozen=True)
class Slip(Pass):
    """A pass with a mistake: it says that it only rounds, and makes a weight 0.1 % greater."""

    name: ClassVar[str] = "slip"
    effect: ClassVar[Exactness] = Exactness.ROUNDING

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        changed = program.copy()
        weight = changed.constants["layer1.weight"]
        value = Dense(weight.encoding.decode() * 1.001)
        changed.constants["layer1.weight"] = replace(weight, encoding=value)
        assert isinstance(changed.constants["layer1.weight"], Constant)
        return PassResult(changed, True)


def test_a_pass_that_changes_the_model_ends_the_build(monkeypatch, tmp_path) -> None:
    steps = Pipeline((*parse_pipeline(CLEANUP).passes, Slip()))
    monkeypatch.setattr(cleanup, "parse_pipeline", lambda specs: steps)
    with pytest.raises(PassError, match=r"output logits off by 0.001 .*: slip 0.001") as error:
        edgec.compile(classifier(), [], "reference", tmp_path / "r")
    assert "clean-up of main" in str(error.value)
    assert not (tmp_path / "r").exists()


def test_sizes_of_unknown_dimensions_are_refused_first(tmp_path) -> None:
    with pytest.raises(ValidationError, match="need named dimensions of the model: batch"):
        edgec.compile(classifier(), [], "reference", tmp_path / "r", dims={"lenght": 3})
