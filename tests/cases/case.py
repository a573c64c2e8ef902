"""One op under test: its attributes, operands and the sizes to run it at, as text and numbers only.

The same cases test every op by itself and every target that emits it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, Builder, Constant, Dense, Op, Program, Range, TensorType, dims
from edgec.ir.text import parse_attributes

_OPERAND = re.compile(r"(const )?(\w+\[[^\]]*\])(?: (-?[\d.]+?)\.\.(-?[\d.]+))?$")


@dataclass(frozen=True)
class Operand:
    """`f32[batch, 4]`, `i64[n] 0..5` or `const f32[8, 4]`.

    Floats are uniform in low..high (default -2..2), integers take every value of low..high (0..1).
    A constant operand is a weight: it is part of the program and no input. Its shape is static.
    """

    type: TensorType
    low: float
    high: float
    constant: bool

    @staticmethod
    def parse(text: str) -> Operand:
        match = _OPERAND.match(text)
        if match is None:
            raise ValueError(f"{text!r} is no operand")
        kind = TensorType.parse(match[2])
        low, high = (-2.0, 2.0) if kind.dtype.is_float else (0.0, 1.0)
        if match[3] is not None:
            low, high = float(match[3]), float(match[4])
        return Operand(kind, low, high, match[1] is not None)

    def sample(self, env: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
        """A tensor of the type at these sizes."""
        shape = self.type.bind(env)
        dtype = self.type.dtype.torch_dtype
        if self.type.dtype.is_float:
            unit = torch.rand(shape, generator=generator, dtype=torch.float64)
            return (self.low + (self.high - self.low) * unit).to(dtype)
        low, high = math.ceil(self.low), math.floor(self.high)
        return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


@dataclass(frozen=True)
class Case:
    """`op(operands) {attributes}` at some sizes of its named dims.

    operands   see `Operand`; "_" for an optional operand that is not given
    sizes      values of the named dims, one run each
    rough      why derivatives are not compared ("" where they are): a jump that samples may hit
    """

    op: str
    attributes: str = ""
    operands: tuple[str, ...] = ()
    sizes: tuple[Mapping[str, int], ...] = ({},)
    rough: str = ""

    @property
    def name(self) -> str:
        attributes = f" {{{self.attributes}}}" if self.attributes else ""
        return f"{self.op}({', '.join(self.operands)}){attributes}"

    def build(self) -> Op:
        op: Op = parse_attributes(OPS[self.op], self.attributes, self.op)
        return op

    def parsed(self) -> list[Operand | None]:
        return [None if text == "_" else Operand.parse(text) for text in self.operands]

    def types(self) -> list[TensorType | None]:
        return [None if o is None else o.type for o in self.parsed()]

    def samples(self, env: Mapping[str, int], seed: int = 0) -> list[torch.Tensor | None]:
        """One tensor per operand; a constant is the same at all sizes."""
        found: list[torch.Tensor | None] = []
        for i, operand in enumerate(self.parsed()):
            generator = torch.Generator().manual_seed(1000 * seed + i)
            found.append(None if operand is None else operand.sample(env, generator))
        return found

    def inputs(self, env: Mapping[str, int], seed: int = 0) -> list[torch.Tensor]:
        """The tensors for the inputs of `program`."""
        pairs = zip(self.parsed(), self.samples(env, seed), strict=True)
        given = [t for o, t in pairs if t is not None and o is not None and not o.constant]
        return given + [torch.zeros(env[n]) for n in self.unbound()]

    def unbound(self) -> list[str]:
        """Named dims that only attributes mention: `program` has an unused input for each."""
        inputs = [o for o in self.parsed() if o is not None and not o.constant]
        return sorted(set(self.names()) - {n for o in inputs for n in dims.names(o.type.shape)})

    def names(self) -> list[str]:
        """The named dims, sorted."""
        of_types = {n for t in self.types() if t is not None for n in dims.names(t.shape)}
        return sorted(of_types.union(*self.sizes))

    def program(self, seed: int = 0) -> Program:
        """A program with the op as its only node; constant operands hold what `samples` gives."""
        constants: dict[str, Constant] = {}
        inputs: list[tuple[str, TensorType]] = []
        operands: list[str | None] = []
        for i, operand in enumerate(self.parsed()):
            if operand is None:
                operands.append(None)
            elif operand.constant:
                generator = torch.Generator().manual_seed(1000 * seed + i)
                name = f"weight{i}"
                constants[name] = Constant(name, Dense(operand.sample({}, generator)))
                operands.append(f"@{name}")
            else:
                inputs.append((f"input{i}", operand.type))
                operands.append(f"input{i}")
        inputs += [(f"size_{n}", TensorType.parse(f"f32[{n}]")) for n in self.unbound()]
        ranges = {n: Range(0, 4096) for n in self.names()}
        b = Builder.new("main", inputs, constants, ranges)
        made = b.emit(self.build(), *operands)
        graph = b.finish(list(made) if isinstance(made, tuple) else [made])
        return Program({"main": graph}, constants)
