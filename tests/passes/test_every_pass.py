"""Every compression pass on the public architectures: what comes out is a program, and says why.

A pass may find nothing to do in an architecture; it then has to say so. What it makes is well
formed, finite, prints and parses, and computes as ONNX what the interpreter computes; two of the
architectures show that it is the same when it is made again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

import edgec
from edgec.comparison import compare
from edgec.interpreter import Interpreter, flatten, random_inputs
from edgec.ir import Program, dims
from edgec.ir.text import parse_program
from edgec.passes import CLEANUP, PASSES, parse_pass, parse_pipeline
from edgec.targets.onnx import Onnx
from edgec.transform import Pipeline, differs
from tests.architectures import ZOO

# One pipeline for each compression pass, with options that suit tiny models.
SPECS: tuple[tuple[str, ...], ...] = (
    ("awq{bits=4,group=16,otherwise=multiply}", "quantize-weights{bits=4,group=16}"),
    ("cast-weights",),
    ("quantize-weights{bits=3}", "refine-scales"),
    ("palettize-weights{bits=3,group=8}",),
    ("quantize-weights{bits=3}", "distill{steps=2}"),
    ("quantize-weights{bits=3}", "reconstruct-blocks{steps=2}"),
    ("prune-heads{ratio=0.5,signature=prune}", "quantize-weights{bits=8}"),
    ("prune-neurons{ratio=0.5,multiple=1,score=fisher}",),
    ("drop-layers{signature=prune}",),
    ("factorize-embeddings{ratio=0.6,multiple=2}",),
    ("factorize-weights{ratio=0.6,multiple=2,score=activation}",),
    ("gptq{bits=4,group=16,misfits=rows}",),
    ("quantize-weights{bits=8,activations=dynamic}",),
    ("quantize-weights{bits=8,activations=dynamic_token}",),
    ("quantize-weights{bits=8}", "quantize-activations"),
    ("smooth-activations{otherwise=multiply}", "quantize-weights{bits=8}", "quantize-activations"),
    ("equalize-layers", "quantize-weights{bits=8}", "quantize-activations", "correct-biases"),
    ('mixed-precision{menu=["quantize-weights{bits=3}","quantize-weights{bits=8}"],ratio=0.6}',),
    ("quantize-weights{bits=3}",),
    ("share-weights{tolerance=0.9,min_numel=1}",),
    ("sparsegpt{bits=4,group=16,misfits=rows}",),
    ('sparsify-attention{pattern="window(1) + global(1)"}',),
    ("sparsify-weights{score=wanda,refit=3}",),
)
# Compression passes that these architectures do not try, and why.
ELSEWHERE = {"trim-vocabulary": "gives inputs other ids: see test_trim_vocabulary.py"}

DEFAULT = {"gpt2_step", "mobilenet_v2"}
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]
TOLERANCE = 1e-5  # of the largest ordinary element, as for programs without passes
ALIKE = 0.95  # cosine, where activations are rounded: one between two codes may go either way


def test_every_pass_is_tried() -> None:
    tried = {parse_pass(spec).name for specs in SPECS for spec in specs}
    assert set(PASSES) - set(CLEANUP) == tried | set(ELSEWHERE)


@cache
def cleaned(name: str) -> tuple[Program, list[torch.Tensor]]:
    """The architecture after clean-up, and its example inputs."""
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    program, _ = parse_pipeline(CLEANUP).run(program)
    return program, [torch.as_tensor(t) for t in flatten(program.main, inputs)]


@pytest.mark.parametrize("specs", SPECS, ids=lambda specs: specs[0].partition("{")[0])
@pytest.mark.parametrize("name", NAMES)
def test_architecture(name: str, specs: tuple[str, ...], tmp_path: Path) -> None:
    program, inputs = cleaned(name)
    pipeline, calibration = parse_pipeline(specs), {"main": [inputs]}
    made, records = pipeline.run(program, calibration=calibration)
    assert all(r.modified or any("nothing to do" in n for n in r.notes) for r in records), records
    if not any(r.modified for r in records):
        return
    if name in DEFAULT:  # the same code for all, and as much time again
        check_again(pipeline, program, made, inputs)
    text = made.text()
    assert parse_program(text, made.constants).text() == text
    check_executed(made, fitting(made, inputs), tmp_path)


def check_again(
    pipeline: Pipeline, program: Program, made: Program, inputs: list[torch.Tensor]
) -> None:
    again, _ = pipeline.run(program, calibration={"main": [inputs]})
    assert not differs(made, again)


def fitting(program: Program, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The example inputs; where a pass has made caches smaller, seeded ones of their new shapes."""
    values = zip(program.main.inputs, inputs, strict=True)
    sizes = (pair for value, x in values for pair in zip(value.type.shape, x.shape, strict=True))
    free = dict(filter(None, (dims.solve(d, n) for d, n in sizes)))
    others = random_inputs(program.main, free)
    return [
        x if list(x.shape) == list(other.shape) or not shrunk(value.type.shape, x) else other
        for x, other, value in zip(inputs, others, program.main.inputs, strict=True)
    ]


def shrunk(shape: tuple[object, ...], x: torch.Tensor) -> bool:
    return any(isinstance(d, int) and d != n for d, n in zip(shape, x.shape, strict=True))


def check_executed(program: Program, inputs: list[torch.Tensor], folder: Path) -> None:
    target = Onnx()
    target.emit(target.legalize(program).verify(), folder)
    # In float64: of a deep network with weights of 3 bits float32 alone rounds 8e-6 away.
    wanted = Interpreter(program, compute=torch.float64).run(inputs)
    rounded = any(getattr(n.op, "activations", "none") != "none" for n in program.main.nodes)
    for got, want in zip(Onnx.load(folder).run("main", inputs), wanted, strict=True):
        assert not want.is_floating_point() or bool(want.isfinite().all())
        want = want.to(got.dtype)
        found = compare("output", got, want, TOLERANCE if want.is_floating_point() else 0.0)
        assert found.passed or (rounded and found.cosine and found.cosine >= ALIKE), found
