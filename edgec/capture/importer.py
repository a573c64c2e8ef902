"""From an exported program to a graph of the IR: walks the live calls and applies their rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, OutputSpec

from edgec.capture.application import apply
from edgec.capture.call import Call, Complex
from edgec.capture.constants import ConstantPool
from edgec.capture.exporting import is_size, live_calls
from edgec.capture.registry import UnsupportedCall, has_rule, schema_arguments
from edgec.capture.source import source_line
from edgec.capture.symbols import SizeFloat, Symbols
from edgec.errors import CaptureError, EdgecError
from edgec.ir.builder import Builder
from edgec.ir.graph import Graph, Value
from edgec.ir.types import DType, TensorType


class Importer:
    """Imports one exported program; the constants go into a pool that several programs may
    share."""

    def __init__(
        self, exported: ExportedProgram, symbols: Symbols, builder: Builder, pool: ConstantPool
    ) -> None:
        self.exported = exported
        self.symbols = symbols
        self.b = builder
        self.pool = pool
        self._results: dict[fx.Node, Any] = {}
        self._constants: dict[str, str] = {}  # placeholder -> the model's name of the tensor
        self._missing: Counter[str] = Counter()
        self._missing_lines: dict[str, str] = {}
        self._problems: list[str] = []

    def run(self, input_names: dict[str, str]) -> list[Value]:
        """Import all live calls; the user's outputs.

        input_names   name of the IR's input for each tensor placeholder
        Raises CaptureError that lists every unsupported call of the program at once.
        """
        for spec in self.exported.graph_signature.input_specs:
            if spec.kind is not InputKind.USER_INPUT and spec.target is not None:
                self._constants[spec.arg.name] = spec.target
        graph = self.exported.graph
        for node in graph.nodes:
            if node.op == "placeholder" and node.name in input_names:
                self._results[node] = self.b.input(input_names[node.name])
        for node in live_calls(graph):
            if not is_size(node):
                self._call(node)
        self.b.source = ""
        outputs = self._outputs(graph)
        self._raise_problems()
        return outputs

    # -------------------------------------------------------------- calls
    def _call(self, node: fx.Node) -> None:
        # a node of generated code has no line of its own: it belongs to the one before
        self.b.source = source_line(node.meta.get("stack_trace")) or self.b.source
        if getattr(node.target, "__name__", "") == "getitem":
            source, index = node.args
            self._results[node] = self._load(source)[index]
            return
        call = Call(self.b, self.pool, self.symbols, self._types(node), str(node.target))
        if not has_rule(str(node.target)) or not isinstance(node.target, torch._ops.OpOverload):
            name = _user_operator(node)
            self._missing[name] += 1
            self._missing_lines.setdefault(name, self.b.source)
            self._results[node] = self._stand_in(call, node)
            return
        try:
            arguments = schema_arguments(node.target, node.args, node.kwargs)
            result = apply(call, [self._load(a) for a in arguments])
            self._check(call, result, node)
        except (UnsupportedCall, EdgecError) as error:
            self._problems.append(f"{_at(str(node.target), self.b.source)}: {error}")
            result = self._stand_in(call, node)
        self._results[node] = result

    def _load(self, argument: Any) -> Any:
        """An argument of a call, with nodes replaced by what they stand for."""
        if isinstance(argument, fx.Node):
            return self._load_node(argument)
        if isinstance(argument, list | tuple):
            return [self._load(a) for a in argument]
        if isinstance(argument, torch.SymInt):
            return self.symbols.dim(argument)
        return argument

    def _load_node(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt):
            return self.symbols.dim(value)
        if isinstance(value, torch.SymFloat):
            return SizeFloat(value.node.expr)
        if isinstance(value, int | float | bool):
            return value
        if node in self._results:
            return self._results[node]
        if node.name not in self._constants:
            raise CaptureError("capture", f"the value {node.name} ({node.op})", "a tensor")
        target = self._constants[node.name]
        tensor = self.exported.state_dict.get(target, self.exported.constants.get(target))
        if not isinstance(tensor, torch.Tensor):
            raise CaptureError("capture", f"the object {target}", "a tensor")
        self._results[node] = self._constant(target, tensor)
        return self._results[node]

    def _constant(self, name: str, tensor: torch.Tensor) -> Value | Complex:
        if tensor.is_complex():
            parts = torch.view_as_real(tensor.resolve_conj()).unbind(-1)
            return Complex(
                self.pool.add(f"{name}.real", parts[0]), self.pool.add(f"{name}.imag", parts[1])
            )
        return self.pool.add(name, tensor)

    def _types(self, node: fx.Node) -> tuple[TensorType | None, ...]:
        value = node.meta.get("val")
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(self._type(v) for v in values)

    def _type(self, value: Any) -> TensorType | None:
        if not isinstance(value, torch.Tensor):
            return None
        dtype = value.dtype.to_real() if value.dtype.is_complex else value.dtype
        return TensorType(DType.of(dtype), self.symbols.shape(value.shape))

    def _stand_in(self, call: Call, node: fx.Node) -> Any:
        """Values of the right types, so that the calls after an unsupported one are looked at
        too."""
        made = [None if t is None else call.zeros(t) for t in call.types]
        return made if isinstance(node.meta.get("val"), list | tuple) else made[0]

    def _check(self, call: Call, result: Any, node: fx.Node) -> None:
        """The rule's results must have torch's dtypes, and torch's sizes for the example inputs."""
        results = result if isinstance(result, list | tuple) else (result,)
        for value, expected in zip(results, call.types, strict=True):
            value = value.re if isinstance(value, Complex) else value
            if not isinstance(value, Value) or expected is None:
                continue
            sizes = [tuple(map(self.symbols.hint, t.shape)) for t in (value.type, expected)]
            if value.type.dtype is not expected.dtype or sizes[0] != sizes[1]:
                raise CaptureError("capture", f"{value.type}", f"{expected}, as torch has it")

    # -------------------------------------------------------------- the end
    def _outputs(self, graph: fx.Graph) -> list[Value]:
        (last,) = (n for n in graph.nodes if n.op == "output")
        specs = self.exported.graph_signature.output_specs
        _refuse_state(specs)
        return [
            self._output(self._load(argument))
            for spec, argument in zip(specs, last.args[0], strict=True)
            if not _is_none(spec.arg)
        ]

    def _output(self, number: Any) -> Value:
        """A result of the module: a tensor, or a size or number as a rank-0 value."""
        if isinstance(number, Value):
            return number
        if isinstance(number, Complex):
            do = "return torch.view_as_real of it"
            raise CaptureError("capture", "a complex output", "real outputs", do)
        call = Call(self.b, self.pool, self.symbols)
        if isinstance(number, bool):
            return call.number(number, DType.BOOL)
        if isinstance(number, float | SizeFloat):
            return call.number(number, DType.F32)
        return call.number(number, DType.I64)

    def _raise_problems(self) -> None:
        if not self._missing and not self._problems:
            return
        listed = [
            _at(target, self._missing_lines[target], count)
            for target, count in sorted(self._missing.items())
        ]
        got = f"{len(listed)} operators without a rule: " if listed else ""
        lines = [*listed, *dict.fromkeys(self._problems)]
        do = (
            "write these lines with other operators, or add a rule with edgec.capture.registry.aten"
        )
        raise CaptureError("capture", got + "\n  ".join(["", *lines]), "", do)


def _user_operator(node: fx.Node) -> str:
    """The operator that the user called: torch may have taken it apart into its primitives."""
    original = node.meta.get("original_aten")
    return (
        str(original) if original is not None and "prims." in str(node.target) else str(node.target)
    )


def _at(target: str, line: str, count: int = 1) -> str:
    times = f" x{count}" if count > 1 else ""
    return f"{target}{times}" + (f" ({line})" if line else "")


_STATE = {
    OutputKind.BUFFER_MUTATION: "the buffer",
    OutputKind.PARAMETER_MUTATION: "the parameter",
    OutputKind.USER_INPUT_MUTATION: "the input",
}


def _refuse_state(specs: Sequence[OutputSpec]) -> None:
    """Raise CaptureError for results that are none of the caller's: what the module writes into."""
    odd = [s for s in specs if s.kind is not OutputKind.USER_OUTPUT]
    if odd:
        named = [f"{_STATE.get(s.kind, s.kind.name)} {s.target or s.arg.name}" for s in odd]
        got = f"a forward that writes into {', '.join(named)}"
        do = "return the new value as an output and take the old one as an input"
        raise CaptureError("capture", got, "a forward without state", do)


def _is_none(argument: Any) -> bool:
    return isinstance(argument, ConstantArgument) and argument.value is None


def drop_dead_nodes(graph: Graph) -> None:
    """Remove nodes that no output depends on."""
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(v.name in needed for v in node.outputs):
            needed.update(node.operands)
            kept.append(node)
    graph.nodes = kept[::-1]


def flat_values(values: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors among flattened inputs. Raises CaptureError for numbers, strings and other
    objects."""
    odd = [
        f"input {i} = {v!r}"
        for i, v in enumerate(values)
        if v is not None and not torch.is_tensor(v)
    ]
    if odd:
        do = "fix such arguments in a wrapper module, or pass them as tensors"
        raise CaptureError("capture", "; ".join(odd)[:300], "tensors", do)
    return [v for v in values if v is not None]
