"""Builds whose caches a pass has made smaller, without data: compared by what callers see."""

from __future__ import annotations

import pytest
import torch

import edgec
from edgec.capture.hf import load
from edgec.compiler.seeded import comparable, seeded
from edgec.errors import ValidationError
from edgec.ir import Program
from edgec.metrics import predict
from edgec.passes import parse_pipeline
from edgec.release import Release
from edgec.runner import Runner

FEWER_HEADS = "prune-heads{ratio=0.5,score=magnitude,refit=False}"


@pytest.fixture(name="translator", scope="module")
def loaded() -> Program:
    return load("models/translate/checkpoint")


def test_a_build_with_fewer_heads_is_compared_and_verified(translator, tmp_path) -> None:
    release = edgec.compile(translator, passes=[FEWER_HEADS], out=tmp_path / "r")
    quality = release.manifest.quality
    assert quality.samples == 4  # the steps: all that the encoder gives has another shape
    assert quality.original == pytest.approx(1)
    assert 0.3 < quality.value < 0.9999
    assert Release.load(tmp_path / "r").verify().verdict == release.verdict == "ACCEPT"


def test_both_programs_get_the_same_first_step(translator) -> None:
    pruned, _ = parse_pipeline([FEWER_HEADS]).run(translator)
    assert comparable(translator, pruned) == {"step"}
    before, after = (seeded(p, {"step"}) for p in (translator, pruned))
    for (_, old), (_, new) in zip(before.calls, after.calls, strict=True):
        assert torch.equal(old[0], new[0]) and torch.equal(old[1], new[1])
        assert old[2].shape[2] == new[2].shape[2] == 0
        assert (old[2].shape[1], new[2].shape[1]) == (8, 4)
    # with all heads, the same calls are what any caller would make
    same = predict(Runner.of_program(translator), before, whole=True)
    assert torch.is_tensor(same[0]) and same[0].shape == (2 * 8000,)


def test_equal_inputs_need_no_choice(translator) -> None:
    quantized, _ = parse_pipeline(["quantize-weights{bits=8}"]).run(translator)
    assert comparable(translator, quantized) == set()


def test_nothing_to_compare_is_told(translator) -> None:
    pruned, _ = parse_pipeline([FEWER_HEADS]).run(translator)
    encoders = [Program({"encode": p.graphs["encode"]}, p.constants) for p in (translator, pruned)]
    encoders[1].graphs["encode"] = pruned.graphs["encode"].replace(
        inputs=pruned.graphs["encode"].inputs[:1]
    )
    with pytest.raises(ValidationError, match="no function that takes and gives what it did"):
        comparable(*encoders)
