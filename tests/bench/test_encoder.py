"""The benchmark of encoders: candidates take turns, and who computes something else is told."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from tests.bench import encoder
from tests.bench.turns import Candidate, Spent, medians


def burns(factor: float) -> Any:
    """Opens a candidate that computes for `factor` milliseconds."""

    def prepare(given: float) -> Any:
        def call() -> float:
            end = time.process_time() + factor * 1e-3
            while time.process_time() < end:
                pass
            return given * int(os.environ["OMP_NUM_THREADS"])

        return call

    return prepare


def fails(text: str) -> Any:
    raise ValueError(text)


def test_candidates_are_measured_in_processes_of_their_own() -> None:
    running = [Candidate(f"{n} ms", burns, (n,), threads=2) for n in (1.0, 8.0)]
    try:
        assert [float(c.prepare(21.0)) for c in running] == [42.0, 42.0]
        spent = medians(running, 3)
    finally:
        for candidate in running:
            candidate.close()
    assert 0.9 < spent["1.0 ms"].cpu < 3 and 7.9 < spent["8.0 ms"].cpu < 24
    assert all(s.wall > 0.9 * s.cpu for s in spent.values())


def test_a_candidate_that_ends_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    candidate = Candidate("broken", fails, ("no model",), threads=1)
    with pytest.raises(SystemExit, match="broken ended"):
        candidate.prepare(1.0)
    candidate.close()
    assert "no model" in capfd.readouterr().err


def test_ratios_below_one_are_faster() -> None:
    assert encoder.over(Spent(2.0, 3.0), Spent(4.0, 2.0)) == Spent(0.5, 1.5)


def test_another_result_is_refused() -> None:
    want = np.ones((2, 3), "f4")
    assert encoder.deviation(want, want) == 0
    for got in (want * 1.01, want[:1], want * np.nan):
        with pytest.raises(SystemExit, match="differ"):
            encoder.deviation(got, want)


def test_every_candidate_can_be_built_and_opened() -> None:
    for part, models in encoder.MODELS.items():
        for model in models:
            names = encoder.candidates(part, model, [])
            assert names[0] == encoder.US and len(names) == len(set(names)) >= 5
    assert "torch, loop" not in encoder.candidates("longdoc", "bigbird", [])
    assert encoder.candidates("text", "minilm", ["onnx"]) == [encoder.US, "onnxruntime"]
