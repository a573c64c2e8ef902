"""Functions with states in one program, and calls of them one after the other with what they give.

The same calls are made on every machine: states are handed over and stay in the instance, grow
there, are read out, start anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from edgec.comparison import Comparison, compare
from edgec.ir import Builder, Program, Range, State, TensorType
from edgec.ir.text import parse_program
from edgec.validate import Setting
from edgec.validate.fidelity import Reference
from tests.targets.native.one_library import add
from tests.targets.onnx import seq2seq

STEPS, BATCH, SRC, CALLS = 40, 3, 5, 4

#: Every function reads x and has states; outputs that are no states are compared after each call.
TEXTS = {
    # a view of the old state is read behind the update
    "view_behind": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[3, 6] = permute(%s) {order=[1, 0]}
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[3, 6] = sigmoid(%old)
  return %t as t, %y as y
}""",
    # an elementwise node that waits for its user reads a view of the old state
    "waiting_view": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[3, 6] = reshape(%s) {shape=[3, 6]}
  %negative: f32[3, 6] = neg(%old)
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[3, 6] = sigmoid(%negative)
  return %t as t, %y as y
}""",
    # a view of the old state is an output
    "view_returned": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %old: f32[5, 3] = slice(%s) {axis=0, start=0, stop=5}
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  return %t as t, %old as old
}""",
    # a state moves by one place
    "moved": """
func @main(%x: f32[1, 300], %s: f32[200, 300]) {
  state s <- u
  %old: f32[199, 300] = slice(%s) {axis=0, start=0, stop=199}
  %t: f32[200, 300] = scatter_slice(%s, %old) {axis=0, start=1, stop=200}
  %u: f32[200, 300] = scatter_slice(%t, %x) {axis=0, start=0, stop=1}
  return %u as u, %u as copy
}""",
    # a state is updated and read
    "updated": """
func @main(%x: f32[2, 3], %s: f32[6, 3]) {
  state s <- t
  %t: f32[6, 3] = scatter_slice(%s, %x) {axis=0, start=1, stop=3}
  %y: f32[6, 3] = exp(%t)
  return %t as t, %y as y
}""",
    # states change places: neither may be written before both are read
    "exchanged": """
func @main(%x: f32[2, 3], %a: f32[2, 3], %b: f32[2, 3], %c: f32[2, 3]) {
  state a <- na
  state b <- nb
  state c <- nc
  %s: f32[2, 3] = add(%x, %a)
  return %b as na, %a as nb, %s as nc, %c as oc, %a as oa, %s as os
}""",
    # two states become one value
    "joined": """
func @main(%x: f32[2, 3], %a: f32[2, 3], %b: f32[2, 3]) {
  state a <- na
  state b <- nb
  %s: f32[2, 3] = add(%x, %b)
  %d: f32[2, 3] = sub(%s, %a)
  return %s as na, %s as nb, %d as d
}""",
    # a state grows, and what it was is read behind
    "grown": """
func @main(%x: f32[2, 1, 3], %s: f32[2, past, 3]) dims(past: 0..8) {
  state s <- t
  %t: f32[2, past + 1, 3] = concat(%s, %x) {axis=1}
  %old: f32[2, 3] = reduce_sum(%s) {axes=[1], keep=False}
  %new: f32[2, 3] = reduce_sum(%t) {axes=[1], keep=False}
  return %t as t, %old as old, %new as new, %t as copy
}""",
}


def step() -> Program:
    """A decoder's step whose KV cache [batch, 2, past, 32] grows along an inner axis."""
    program = seq2seq.program()
    graph = program.graphs["step"]
    sizes = {**graph.dims, "past": Range(0, STEPS)}
    graphs = {"main": graph.replace(name="main", dims=sizes)}
    return Program(graphs, program.constants).drop_unused_constants()


def recurrent() -> Program:
    """h, c of an LSTM of one step; they keep their size."""
    generator = torch.Generator().manual_seed(0)
    kinds = ["f32[batch, 1, 6]", "f32[1, batch, 8]", "f32[1, batch, 8]"]
    inputs = [(n, TensorType.parse(k)) for n, k in zip(("x", "h", "c"), kinds, strict=True)]
    b = Builder.new("main", inputs, {}, {"batch": Range(1, 4)})
    shapes = {"wx": (32, 6), "wh": (32, 8), "bx": (32,), "bh": (32,)}
    weights = [b.constant(torch.randn(s, generator=generator), n) for n, s in shapes.items()]
    attributes = {"hidden": 8, "layers": 1, "bidirectional": False, "bias": True}
    given = [b.input(n) for n in ("x", "h", "c")]
    y, h, c = b.lstm(*given, *weights, batch_first=True, **attributes)
    graph = b.finish([y, h, c], ["y", "h_next", "c_next"])
    graph.states = (State("h", "h_next"), State("c", "c_next"))
    return Program({"main": graph}, graph.constants).verify()


def all_functions() -> Program:
    """A function each."""
    whole = Program({}, {})
    for name, text in TEXTS.items():
        add(whole, parse_program(text), name)
    add(whole, step(), "step")
    add(whole, recurrent(), "recurrent")
    return whole.verify()


@dataclass(frozen=True, eq=False)
class Call:
    """One call in a row of them.

    env         sizes of the named dims
    inputs      None: a state that stays in the instance
    wanted      of every output, whether it stays or not
    tolerances  relative to the greatest magnitude, of every output
    stays       outputs that stay in the instance, by index
    """

    function: str
    env: dict[str, int]
    inputs: list[torch.Tensor | None]
    names: tuple[str, ...]
    wanted: tuple[torch.Tensor, ...]
    tolerances: tuple[float, ...]
    stays: frozenset[int]

    def differences(self, outputs: Sequence[torch.Tensor | None]) -> list[Comparison | str]:
        """Outputs (None: not given) that are not as they should be; a state may stay inside."""
        missing = [n for n, o in zip(self.names, outputs, strict=True) if o is None]
        allowed = {self.names[i] for i in self.stays}
        found: list[Comparison | str] = [f"no {n}" for n in missing if n not in allowed]
        rows = zip(self.names, outputs, self.wanted, self.tolerances, strict=True)
        compared = [compare(n, g, w, t) for n, g, w, t in rows if g is not None]
        return found + [c for c in compared if not c.passed]


def generation(program: Program, function: str, kept: bool, read_out: bool = False) -> list[Call]:
    """Calls from the start on, each with the states that the call before it made.

    kept       states stay in the instance; the first call hands over those with elements
    read_out   the last call gives back those that were kept
    """
    graph, reference = program.graphs[function], Reference(program)
    feeding = {s.input: graph.output_names.index(s.output) for s in graph.states}
    rows = list(_inputs(program, function))
    calls: list[Call] = []
    for number, row in enumerate(rows):
        carried = {n: calls[-1].wanted[o] for n, o in feeding.items()} if calls else {}
        full = [carried.get(v.name, x) for v, x in zip(graph.inputs, row, strict=True)]
        env = graph.bind(tuple(t.shape for t in full))
        case = reference.case(function, Setting("call", env), full)
        inputs = [
            None if kept and v.name in feeding and (number or not x.numel()) else x
            for v, x in zip(graph.inputs, full, strict=True)
        ]
        inside = {feeding[v.name] for v, x in zip(graph.inputs, inputs, strict=True) if x is None}
        stays = frozenset() if read_out and number == len(rows) - 1 else frozenset(inside)
        sizes = {n: env[n] for n in graph.dims}
        names, limits = graph.output_names, case.tolerances
        calls.append(Call(function, sizes, inputs, names, case.wants, limits, stays))
    return calls


def _inputs(program: Program, function: str) -> Iterator[list[torch.Tensor]]:
    """Inputs of each call; a position is the number of the call, states are those of a start."""
    graph, g = program.graphs[function], torch.Generator().manual_seed(0)
    sizes = {"batch": BATCH, "src": SRC}
    for call in range(STEPS if function == "step" else CALLS):
        env = {n: sizes.get(n, call) for n in graph.dims}
        yield [
            torch.randn(v.type.bind(env), generator=g)
            if v.type.dtype.is_float
            else torch.randint(0, seq2seq.V, v.type.bind(env), generator=g)
            for v in graph.inputs
        ]


def session(program: Program, read_out: bool = True) -> list[Call]:
    """All functions in one instance: kept, handed over, and kept from the start again."""
    calls = []
    for function in program.graphs:
        kept = generation(program, function, True, read_out)
        calls += [*kept, *generation(program, function, False), *kept]
    return calls
