"""States of native models that are overwritten, moved, exchanged and read after their update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Program
from edgec.ir.text import parse_program
from edgec.runtime.model import Model
from edgec.targets.native import Native
from edgec.targets.native.lower import lower_function
from edgec.targets.native.statements import calls
from edgec.targets.native.states import states_of
from edgec.targets.native.toolchain import host_triple
from edgec.targets.native.weights import Weights

CALLS = 4

#: Every program reads x and has states; outputs that are no states are compared after each call.
PROGRAMS = {
    "a view of the old state is read behind the update": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[3, 6] = permute(%s) {order=[1, 0]}
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[3, 6] = sigmoid(%old)
  return %t as t, %y as y
}""",
    "an elementwise node that waits for its user reads a view of the old state": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[3, 6] = reshape(%s) {shape=[3, 6]}
  %negative: f32[3, 6] = neg(%old)
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[3, 6] = sigmoid(%negative)
  return %t as t, %y as y
}""",
    "a view of the old state is an output": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[5, 3] = slice(%s) {axis=0, start=0, stop=5}
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  return %t as t, %old as old
}""",
    "a state moves by one place": """
func @main(%x: f32[1, 300], %s: f32[200, 300]) {
  state s <- u
  %old: f32[199, 300] = slice(%s) {axis=0, start=0, stop=199}
  %t: f32[200, 300] = scatter_slice(%s, %old) {axis=0, start=1, stop=200}
  %u: f32[200, 300] = scatter_slice(%t, %x) {axis=0, start=0, stop=1}
  return %u as u, %u as copy
}""",
    "a state is updated and read": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[6, 3] = exp(%t)
  return %t as t, %y as y
}""",
    "states change places": """
func @main(%x: f32[2, 3], %a: f32[2, 3], %b: f32[2, 3], %c: f32[2, 3]) {
  state a <- na
  state b <- nb
  state c <- nc
  %s: f32[2, 3] = add(%x, %a)
  return %b as na, %a as nb, %s as nc, %c as oc, %a as oa, %s as os
}""",
    "two states become one value": """
func @main(%x: f32[2, 3], %a: f32[2, 3], %b: f32[2, 3]) {
  state a <- na
  state b <- nb
  %s: f32[2, 3] = add(%x, %b)
  %d: f32[2, 3] = sub(%s, %a)
  return %s as na, %s as nb, %d as d
}""",
    "a state grows, and what it was is read behind": """
func @main(%x: f32[2, 1, 3], %s: f32[2, past, 3]) dims(past: 0..8) {
  state s <- t
  %t: f32[2, past + 1, 3] = concat(%s, %x) {axis=1}
  %old: f32[2, 3] = reduce_sum(%s) {axes=[1], keep=False}
  %new: f32[2, 3] = reduce_sum(%t) {axes=[1], keep=False}
  return %t as t, %old as old, %new as new, %t as copy
}""",
}

each_program = pytest.mark.parametrize("text", PROGRAMS.values(), ids=list(PROGRAMS))


@each_program
def test_states_that_stay_in_the_instance(text: str, tmp_path: Path) -> None:
    """The first call hands states over where they have elements, later ones have none."""
    program = emitted(text, tmp_path)
    graph, model = program.main, loaded(tmp_path)
    kept = {s.input for s in graph.states}
    values: dict[str, torch.Tensor] = {}
    for call, xs in enumerate(inputs(program)):
        given = [values.get(v.name, x) for v, x in zip(graph.inputs, xs, strict=True)]
        wanted = dict(zip(graph.output_names, Interpreter(program).run(given), strict=True))
        env = graph.bind(tuple(t.shape for t in given))
        arrays = [
            None if v.name in kept and (call or not t.numel()) else t.numpy()
            for v, t in zip(graph.inputs, given, strict=True)
        ]
        prepared = model.prepare("main", [env[n] for n in graph.dims], arrays, keep_states=True)
        model.call(prepared)
        same_where_given(prepared.outputs, list(wanted.values()))
        values = {s.input: wanted[s.output] for s in graph.states}


@each_program
def test_states_that_are_handed_over(text: str, tmp_path: Path) -> None:
    program = emitted(text, tmp_path)
    executable = Native.load(tmp_path)
    for given in inputs(program):
        wanted = Interpreter(program).run(given)
        same_where_given([t.numpy() for t in executable.run("main", given)], wanted)


def test_an_update_without_other_readers_is_in_place() -> None:
    """No statement copies the state as a whole, but those for callers that hand it over."""
    program = parse_program(PROGRAMS["a state is updated and read"])
    states = list(states_of(program.main))
    lowered = lower_function(program.main, Weights(program.constants), states)
    written = [c for c in calls(lowered.statements) if c.pointers[-1].storage is states[0].storage]  # type: ignore[union-attr]
    assert [c.sizes["n1"] for c in written] == [18, 6]


def emitted(text: str, folder: Path) -> Program:
    program = parse_program(text).verify()
    Native().emit(Native().legalize(program), folder)
    return program


def loaded(folder: Path) -> Model:
    (library,) = folder.glob(f"lib/{host_triple()}/*")
    return Model(library, folder / "model.weights")


def inputs(program: Program) -> list[list[torch.Tensor]]:
    """For each call; a named dimension is the number of the call."""
    torch.manual_seed(0)
    made = []
    for call in range(CALLS):
        env = dict.fromkeys(program.main.dims, call)
        shapes = [v.type.bind(env) for v in program.main.inputs]
        made.append([torch.randn(shape) for shape in shapes])
    return made


def same_where_given(got: Sequence[np.ndarray | None], wanted: Sequence[torch.Tensor]) -> None:
    """Outputs that stay in the instance are None."""
    pairs = [(g, w) for g, w in zip(got, wanted, strict=True) if g is not None]
    assert pairs
    for g, w in pairs:
        torch.testing.assert_close(torch.from_numpy(g), w)
