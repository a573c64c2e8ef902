"""What a change of a weight does to the outputs of a program: predicted, or measured.

The loss of weights w -> w + d is that of the float outputs f on calibration data: "mse",
||f(w + d) - f(w)||^2 / ||f(w)||^2; "kl", the mean divergence of the softmax over the last axis.
What a later call gets (states, and what another function takes) has "mse" always. The mean over
such outputs and that over the others are added. At d = 0 the loss and its gradient are 0, so that
for small d its second-order term is all there is:

    loss(d) = d^T G d + ...,    G = J^T M J,  J = df/dw,  M = 1 / ||f||^2  or  (diag p - p p^T) / 2

`predicted` needs no inverse and no Hessian: with u of mean 0 and covariance M, d^T G d is the mean
of (d . J^T u)^2, one backward pass for each u and all weights. For "kl", u = (e_y - p) / sqrt(2)
with y drawn from p: G is the Fisher information of the model (Martens 2014, arXiv:1412.1193, sec.
9). `measured` changes one weight at a time and runs the program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from edgec.comparison import FILLER
from edgec.context import Calibration, Steps, unheard
from edgec.interpreter import Interpreter
from edgec.ir import Program

Loss: TypeAlias = Literal["mse", "kl"]
Candidates: TypeAlias = Mapping[str, Mapping[str, Callable[[], Tensor]]]
"""Constant -> label -> what makes the changed tensor."""

Kind: TypeAlias = tuple[Loss, float]
"""Loss and share of an output."""

Losses: TypeAlias = dict[str, dict[str, float]]
"""Constant -> label -> loss, the mean over calls of each function, summed over functions."""


@dataclass(frozen=True)
class Call:
    """One call of a function; `share`: 1 / number of calls of its function."""

    function: str
    inputs: Sequence[Tensor]
    share: float


def some_calls(calibration: Calibration, most: int) -> list[Call]:
    """At most `most` calls of each function, evenly spread over the data."""
    found = []
    for function, calls in calibration.items():
        count = min(most, len(calls))
        chosen = [calls[i * len(calls) // count] for i in range(count)]
        found += [Call(function, inputs, 1 / count) for inputs in chosen]
    return found


def predicted(
    program: Program,
    candidates: Candidates,
    calls: Sequence[Call],
    loss: Loss = "mse",
    draws: int = 1,
    seed: int = 0,
    steps: Steps = unheard,
) -> Losses:
    """d^T G d of every candidate, estimated from `draws` random u for each call.

    Of normal u, and where all calls lose alike, the relative standard error is sqrt(2 / (draws *
    calls)); where few calls make most of a loss it is that of their number. A weight that no
    gradient reaches (behind rounded activations, for example) has loss 0.
    """
    generator = torch.Generator().manual_seed(seed)
    before = {n: program.constants[n].encoding.decode() for n in candidates}
    leaves = {n: t.clone().requires_grad_() for n, t in before.items()}
    interpreter = Interpreter(program, constants=leaves)
    found: Losses = {n: dict.fromkeys(labels, 0.0) for n, labels in candidates.items()}
    kinds = {call.function: _losses(program, call.function, loss) for call in calls}
    gradients: list[tuple[float, dict[str, Tensor]]] = []
    for done, call in enumerate(calls):
        steps(done, len(calls))
        for _ in range(draws):
            gradient = _gradient(interpreter, call, leaves, kinds[call.function], generator)
            gradients.append((call.share / draws, gradient))
        if len(gradients) >= _HELD or done + 1 == len(calls):
            _add(found, candidates, before, gradients)
            gradients.clear()
    return found


SMALLEST = 1e-30  # size of an output; gradients of smaller ones would be beyond float32
_HELD = 8  # gradients of all weights held at once; candidates are decoded once for so many


def _gradient(
    interpreter: Interpreter,
    call: Call,
    leaves: Mapping[str, Tensor],
    kinds: Sequence[Kind],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """J^T u for one u, by constant."""
    outputs = interpreter.run(call.inputs, call.function, grad=True)
    drawn = [
        (_draw(output.detach(), loss, generator) * output).sum() * share**0.5
        for output, (loss, share) in zip(outputs, kinds, strict=True)
        if share and output.requires_grad and output.numel()
    ]
    if not drawn:
        return {}
    total = torch.stack(drawn).sum()
    made = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {name: g for name, g in zip(leaves, made, strict=True) if g is not None}


def _draw(output: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
    """u of mean 0 and covariance M."""
    dtype, output = output.dtype, output.float()
    if loss == "mse":
        noise = torch.randn(output.shape, generator=generator)
        # As in `distance`: nothing to be relative to where an output is 0.
        size = float(_ordinary(output).double().square().sum().sqrt()) or 1.0
        return (noise / max(size, SMALLEST)).to(dtype)
    p = output.softmax(-1).reshape(-1, output.shape[-1])
    drawn = torch.multinomial(p, 1, generator=generator)
    u = torch.nn.functional.one_hot(drawn[:, 0], p.shape[1]) - p
    scaled: Tensor = u / (2 * len(p)) ** 0.5
    return scaled.reshape(output.shape).to(dtype)


def _ordinary(output: Tensor) -> Tensor:
    """Without fillers of masks, which are no measure of an output's size."""
    return torch.where(output.abs() < FILLER, output, 0)


def _add(
    found: Losses,
    candidates: Candidates,
    before: Mapping[str, Tensor],
    gradients: Sequence[tuple[float, Mapping[str, Tensor]]],
) -> None:
    for name, labels in candidates.items():
        for label, make in labels.items():
            change = make().float() - before[name].float()
            for share, gradient in gradients:
                if name in gradient:
                    product = float((change * gradient[name]).sum(dtype=torch.float64))
                    found[name][label] += share * product * product


def measured(
    program: Program,
    candidates: Candidates,
    calls: Sequence[Call],
    loss: Loss = "mse",
    steps: Steps = unheard,
) -> Losses:
    """The loss with each candidate alone put into the program."""
    tensors = {n: c.encoding.decode() for n, c in program.constants.items()}
    interpreter = Interpreter(program, constants=tensors)
    wants = [interpreter.run(call.inputs, call.function) for call in calls]
    kinds = {call.function: _losses(program, call.function, loss) for call in calls}
    uses = {name: graph.used_constants() for name, graph in program.graphs.items()}
    found: Losses = {}
    total = sum(len(labels) for labels in candidates.values())
    for done, (name, label, make) in enumerate(_each(candidates)):
        steps(done, total)
        before, tensors[name] = tensors[name], make()
        found.setdefault(name, {})[label] = sum(
            call.share
            * distance(interpreter.run(call.inputs, call.function), want, kinds[call.function])
            for call, want in zip(calls, wants, strict=True)
            if name in uses[call.function]
        )
        tensors[name] = before
    return found


def _each(candidates: Candidates) -> Iterator[tuple[str, str, Callable[[], Tensor]]]:
    for name, labels in candidates.items():
        for label, make in labels.items():
            yield name, label, make


def distance(got: Sequence[Tensor], want: Sequence[Tensor], kinds: Sequence[Kind]) -> float:
    """The loss of the outputs of one call; infinite where outputs became NaN or infinite."""
    total = 0.0
    for g, w, (loss, share) in zip(got, want, kinds, strict=True):
        if share and w.numel():
            lost = _divergence(g.double(), w.double()) if loss == "kl" else _squares(g, w.double())
            total += share * lost
    return total if math.isfinite(total) else math.inf


def _divergence(got: Tensor, want: Tensor) -> float:
    """KL(softmax want || softmax got), the mean over rows."""
    p, q = want.log_softmax(-1), got.log_softmax(-1)
    return float(torch.where(p.exp() > 0, p.exp() * (p - q), 0).sum(-1).mean())


def _squares(got: Tensor, want: Tensor) -> float:
    """||got - want||^2 / ||want||^2, without the places of fillers."""
    size = float(_ordinary(want).square().sum())
    gap = float(torch.where(want.abs() < FILLER, got - want, 0).square().sum())
    return gap / size if size else gap


def _losses(program: Program, function: str, loss: Loss) -> list[Kind]:
    """The loss of each output and its share; 0 for one that is no float."""
    graph = program.graphs[function]
    taken = {v.name for name, g in program.graphs.items() if name != function for v in g.inputs}
    taken |= {state.output for state in graph.states}
    floats = [t.dtype.is_float for t in graph.output_types()]
    carried = [name in taken for name in graph.output_names]
    counts = Counter(c for c, f in zip(carried, floats, strict=True) if f)
    return [
        ("mse" if c else loss, 1 / counts[c] if f else 0.0)
        for c, f in zip(carried, floats, strict=True)
    ]
