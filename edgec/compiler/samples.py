"""Calibration data as inputs of functions: what a program's own task feeds them with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgec.ir.program import Program
from edgec.metrics import Data, Tensors
from edgec.metrics.predict import translator
from edgec.runner import Runner
from edgec.transform import Samples

TEXTS = 4  # of the data, in one batch
TOKENS = 6  # generated, so that states hold something


def from_data(program: Program, data: Data) -> Samples:
    """One call of each function with the first samples of `data`.

    A translator translates the first texts as one batch for a few tokens: the call of its encoder
    and the last call of its step are the samples. Tensors are calls already; other texts give none.
    """
    if isinstance(data, Tensors):
        function, inputs = data.calls[0]
        return {function: [list(inputs)]}
    if program.metadata.get("task") != "translate":
        return {}
    last: dict[str, list[torch.Tensor]] = {}
    runner = Runner.of_program(program)

    def run(function: str, inputs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        last[function] = [t.clone() for t in inputs]
        return runner.run(function, inputs)

    found = translator(Runner(runner.graphs, run, runner.metadata, runner.tokenizer))
    found.decoder.max_tokens = min(TOKENS, found.decoder.max_tokens)
    found.translate(list(data.first(TEXTS).sources), batch=TEXTS)
    return {function: [inputs] for function, inputs in last.items()}
