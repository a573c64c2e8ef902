"""The C text of one function: a call per kernel, checks, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels import Pointer
from edgec.kernels.kernel import C_TYPES, Size
from edgec.targets.native.expressions import c_expression, identifier, variable
from edgec.targets.native.lower import Lowered
from edgec.targets.native.plan import Memory
from edgec.targets.native.statements import (
    Call,
    CheckIndices,
    Comment,
    CopyState,
    Loop,
    Statement,
)
from edgec.targets.native.tables import BuildTable
from edgec.targets.native.views import Place, Storage


def function_source(lowered: Lowered, memory: Memory) -> str:
    """`run_NAME`, which the model's description has a pointer to."""
    return _Function(lowered, memory).text()


class _Function:
    """What its text is made from."""

    def __init__(self, lowered: Lowered, memory: Memory) -> None:
        self.lowered, self.memory = lowered, memory
        self.inputs = {s: i for i, s in enumerate(lowered.inputs)}
        self.outputs = {s: i for i, s in enumerate(lowered.outputs)}

    def text(self) -> str:
        graph = self.lowered.graph
        lines = [
            f"static edgec_status run_{identifier(graph.name)}(edgec_instance *self, "
            "const int64_t *dims,",
            "    const void *const *inputs, void *const *outputs) {",
            *(f"  const int64_t {variable(n)} = dims[{i}];" for i, n in enumerate(graph.dims)),
            "  unsigned char *const arena = edgec_arena(self);",
            "  const unsigned char *const weights = edgec_weights(self);",
            "  edgec_status status = EDGEC_OK;",
            "  (void)dims; (void)inputs; (void)outputs; (void)arena; (void)weights; (void)status;",
            *(f"  (void){variable(n)};" for n in graph.dims),
            *self._statements(self.lowered.statements, "  "),
            "  return EDGEC_OK;",
            "}\n",
        ]
        return "\n".join(lines)

    def _statements(self, statements: Sequence[Statement], indent: str) -> Iterator[str]:
        for statement in statements:
            match statement:
                case Comment():
                    yield f"{indent}/* {_comment(statement.text)} */"
                case Call():
                    yield indent + self._call(statement)
                case CopyState():
                    yield f"{indent}if ({self._base(statement.external)}) {{"
                    yield f"{indent}  {self._call(statement.call)}"
                    yield f"{indent}}}"
                case CheckIndices():
                    yield indent + self._check(statement)
                    yield f"{indent}if (status) return status;"
                case BuildTable():
                    base = self._base(statement.table.storage)
                    length = c_expression(statement.length)
                    name = f"table_{statement.table.number}"
                    yield f"{indent}status = {name}(self, {base}, {length});"
                    yield f"{indent}if (status) return status;"
                case Loop():
                    v = variable(statement.variable)
                    count = c_expression(statement.count)
                    yield f"{indent}for (int64_t {v} = 0; {v} < {count}; ++{v}) {{"
                    yield from self._statements(statement.body, indent + "  ")
                    yield f"{indent}}}"

    def _call(self, call: Call) -> str:
        kernel, places = call.kernel, iter(call.pointers)
        arguments = ["self"]
        numbers: dict[str, Dim] = {}
        for p in kernel.parameters():
            if isinstance(p, Pointer):
                arguments.append(self._place(p, next(places)))
            else:
                arguments.append(_size(p, call.sizes[p.name]))
                value = call.sizes[p.name]
                if not isinstance(value, float):
                    numbers[p.name] = value
        counts = (kernel.items(numbers), kernel.grain(numbers))
        arguments += [c_expression(dims.normal(n)) for n in counts]
        return f"{kernel.name}({', '.join(arguments)});"

    def _place(self, parameter: Pointer, place: Place | None) -> str:
        if place is None:
            return "0"
        constant = "" if parameter.output else "const "
        text = f"({constant}{C_TYPES[parameter.dtype]} *)({self._base(place.storage)})"
        offset = c_expression(place.offset)
        return text if offset == "0" else f"{text} + {offset}"

    def _base(self, storage: Storage) -> str:
        match storage.kind:
            case "input":
                return f"inputs[{self.inputs[storage]}]"
            case "output":
                return f"outputs[{self.outputs[storage]}]"
            case "weights":
                return f"weights + {self.memory.weights[storage.name]}"
        return f"arena + {self.memory.arena[storage]}"

    def _check(self, check: CheckIndices) -> str:
        width = "i64" if check.is_i64 else "i32"
        kind = Pointer("x", "int64" if check.is_i64 else "int32")
        numbers = ", ".join(c_expression(d) for d in (check.count, check.low, check.high))
        place = self._place(kind, check.indices)
        return f'status = edgec_check_{width}(self, "{check.what}", {place}, {numbers});'


def _size(parameter: Size, value: Dim | float) -> str:
    if parameter.dtype == "int32":
        assert not isinstance(value, float), parameter.name
        return c_expression(value)
    return float_literal(float(value))


def float_literal(value: float) -> str:
    """C text of the float nearest to a number, without a warning for those that are none."""
    with np.errstate(over="ignore"):
        number = np.float32(value)
    if np.isnan(number):
        return "(float)(1e300 * 1e300 * 0.0)"
    if np.isinf(number):
        return f"{'-' if number < 0 else ''}(float)(1e300 * 1e300)"
    text = str(number)
    return f"{text}f" if "e" in text or "." in text else f"{text}.0f"


def _comment(text: str) -> str:
    """An IR line without what would end the comment, or warn."""
    return text.replace("*/", "* /").replace("/*", "/ *")
