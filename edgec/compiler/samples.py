"""Data as inputs of functions: what a program's own task feeds them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edgec.compiler.quality import load_data
from edgec.context import Calibration, Samples
from edgec.ir.program import Program
from edgec.metrics import Data, Tensors, Texts
from edgec.metrics.predict import BATCH, tokenized, translator
from edgec.runner import Runner

TEXTS = 4  # of the data, in one batch
TOKENS = 6  # generated, so that states hold something
EVERY = 4  # the caches of neighbouring steps are nearly the same


def from_data(program: Program, data: Data) -> Samples:
    """One call of each function with the first samples of `data`.

    A translator translates the first texts as one batch for a few tokens: the call of its encoder
    and the last call of its step are the samples. Tensors are calls already.
    """
    if isinstance(data, Texts) and program.metadata.get("task") == "translate":
        found = _translations(program, list(data.first(TEXTS).sources), TEXTS, TOKENS)
        return {function: calls[-1:] for function, calls in found.items()}
    return calls_of(program, data.first(1))


def calls_of(program: Program, data: Data) -> dict[str, list[list[torch.Tensor]]]:
    """All calls that `data` makes: {function: [flat inputs, ...]}.

    A translator translates the texts; of the calls of a function with states every fourth is kept.
    Texts for a program of one function are calls of that, one each.
    """
    if isinstance(data, Texts) and program.metadata.get("task") == "translate":
        found = _translations(program, list(data.sources), BATCH)
        return {f: c[::EVERY] if program.graphs[f].states else c for f, c in found.items()}
    if isinstance(data, Texts):
        calls = tuple(tokenized(Runner.of_program(program), data.sources))
    else:
        calls = data.calls
    made: dict[str, list[list[torch.Tensor]]] = {}
    for function, inputs in calls:
        made.setdefault(function, []).append(list(inputs))
    return made


def _translations(
    program: Program, sources: Sequence[str], batch: int, max_tokens: int | None = None
) -> dict[str, list[list[torch.Tensor]]]:
    """Every call of every function while the texts are translated, in order."""
    made: dict[str, list[list[torch.Tensor]]] = {}
    runner = Runner.of_program(program)

    def run(function: str, inputs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        made.setdefault(function, []).append(list(inputs))
        return runner.run(function, inputs)

    found = translator(Runner(runner.graphs, run, runner.metadata, runner.tokenizer))
    if max_tokens is not None:
        found.decoder.max_tokens = min(max_tokens, found.decoder.max_tokens)
    found.translate(list(sources), batch=batch)
    return made


def calibration_calls(
    program: Program, given: Calibration | Data | Path | str | None, limit: int = 0
) -> Calibration | None:
    """Calibration in any of the forms that `edgec.compile` takes, as calls."""
    if isinstance(given, Path | str):
        given = load_data(given, program, limit)
    if isinstance(given, Texts | Tensors):
        return calls_of(program, given)
    return given
