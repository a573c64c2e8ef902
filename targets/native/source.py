"""The C source of a model: one function per function of the program, one call per kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import edgec
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels import Kernel, Pointer
from edgec.kernels.kernel import C_TYPES, Size
from edgec.targets.native.expressions import PREAMBLE, c_expression, identifier, variable
from edgec.targets.native.header import model_symbol, parameters
from edgec.targets.native.lower import Lowered
from edgec.targets.native.platforms import Platform
from edgec.targets.native.statements import (
    Call,
    CheckIndices,
    Comment,
    CopyState,
    Loop,
    Place,
    Statement,
)
from edgec.targets.native.tables import BuildTable, Table, table_source
from edgec.targets.native.variants import kernel_tables
from edgec.targets.native.views import Storage


@dataclass(frozen=True)
class Memory:
    """What the plan and the weights file decided.

    arena          offset of each arena and state storage, bytes
    weights        offset of each entry in the payload, bytes
    tables         block tables of patterns
    arena_bytes    whole arena
    weights_bytes  size of the file
    weights_hash   SHA-256 of its payload
    """

    arena: Mapping[Storage, int]
    weights: Mapping[str, int]
    tables: Sequence[Table]
    arena_bytes: int
    weights_bytes: int
    weights_hash: bytes


def model_source(
    name: str,
    functions: Sequence[Lowered],
    kernels: Sequence[Kernel],
    platforms: Sequence[Platform],
    memory: Memory,
) -> str:
    """NAME.c, one text for all platforms."""
    numbers = {k: i for i, k in enumerate(kernels)}
    parts = [
        f"/* {name}: compiled by edgec {edgec.__version__}. */",
        f'#include "{name}.h"',
        '#include "edgec/block_table.h"\n',
        PREAMBLE,
        *kernel_tables(name, kernels, platforms),
        *(_wrapper(k, i) for k, i in numbers.items()),
        *map(table_source, memory.tables),
        *(_Function(f, memory).text() for f in functions),
        *(_description(f) for f in functions),
        _model(name, functions, kernels, memory),
        *(_typed(name, f, i) for i, f in enumerate(functions)),
    ]
    return "\n".join(parts)


# ------------------------------------------------------------------ kernels
def _wrapper(kernel: Kernel, number: int) -> str:
    """The function that programs call: it packs the arguments and splits the items."""
    name, listed = kernel.name, kernel.parameters()
    fields = "".join(f" {p.c};" for p in listed)
    names = ", ".join(p.name for p in listed)
    passed = ", ".join([*(f"given->{p.name}" for p in listed), "workspace", "begin", "end"])
    counts = ["int64_t item_count", "int64_t grain"]
    shown = ", ".join(["edgec_instance *self", *(p.c for p in listed), *counts])
    return f"""\
struct {name}_arguments {{ const struct kernels *kernels;{fields} }};
static void {name}_task(const void *arguments, int32_t begin, int32_t end, void *workspace) {{
  const struct {name}_arguments *given = arguments;
  given->kernels->{name}({passed});
}}
static void {name}({shown}) {{
  const struct {name}_arguments given = {{edgec_kernels(self), {names}}};
  edgec_parallel(self, {number}, {name}_task, &given, (int32_t)item_count, (int32_t)grain);
}}
"""


# ------------------------------------------------------------------ functions
class _Function:
    """The text of one function."""

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


# ------------------------------------------------------------------ description
def _description(lowered: Lowered) -> str:
    graph = lowered.graph
    name = identifier(graph.name)
    lines = []
    types = [v.type for v in graph.inputs] + list(graph.output_types())
    names = [v.name for v in graph.inputs] + list(graph.output_names)
    for i, type in enumerate(types):
        reads = [
            f"const int64_t {variable(n)} = d[{j}];"
            for j, n in enumerate(graph.dims)
            if n in dims.names(type.shape)
        ]
        sets = [f"sizes[{a}] = {c_expression(n)};" for a, n in enumerate(type.shape)]
        body = " ".join(["(void)d; (void)sizes;", *reads, *sets])
        lines.append(f"static void {name}_shape_{i}(const int64_t *d, int64_t *sizes) {{ {body} }}")
    rows = [
        f'  {{"{n}", EDGEC_{t.dtype.value.upper()}, {t.rank}, '
        f'"[{", ".join(dims.show(d) for d in t.shape)}]", {name}_shape_{i}}},'
        for i, (n, t) in enumerate(zip(names, types, strict=True))
    ]
    split = len(graph.inputs)
    lines += [f"static const edgec_tensor {name}_inputs[] = {{", *rows[:split], "  {0}};"]
    lines += [f"static const edgec_tensor {name}_outputs[] = {{", *rows[split:], "  {0}};"]
    ranges = "".join(f'{{"{n}", {r.min}, {r.max}}}, ' for n, r in graph.dims.items())
    lines.append(f"static const edgec_dim {name}_dims[] = {{{ranges}{{0}}}};")
    inputs = [v.name for v in graph.inputs]
    states = "".join(
        f"{{{inputs.index(s.input)}, {graph.output_names.index(s.output)}}}, " for s in graph.states
    )
    lines.append(f"static const edgec_state {name}_states[] = {{{states}{{0}}}};\n")
    return "\n".join(lines)


def _model(
    name: str,
    functions: Sequence[Lowered],
    kernels: Sequence[Kernel],
    memory: Memory,
) -> str:
    rows = []
    for f in functions:
        g, n = f.graph, identifier(f.graph.name)
        counts = f"{len(g.dims)}, {len(g.inputs)}, {len(g.outputs)}, {len(g.states)}"
        rows.append(
            f'  {{"{g.name}", {n}_dims, {n}_inputs, {n}_outputs, {n}_states, {counts}, run_{n}}},'
        )
    names = ", ".join([*(f'"{k.name}"' for k in kernels), "0"])
    digest = ", ".join(map(str, memory.weights_hash))
    return "\n".join(
        [
            "static const edgec_function functions[] = {",
            *rows,
            "};",
            f"static const char *const kernel_names[] = {{{names}}};",
            f"const edgec_model {model_symbol(name)} = {{",
            f'  EDGEC_ABI, "{name}", "{edgec.__version__}", {memory.weights_bytes}u,',
            f"  {{{digest}}},",
            f"  {memory.arena_bytes}u, WORKSPACE_BYTES, variants, functions, kernel_names,",
            f"  N_VARIANTS, {len(functions)}, {len(kernels)}",
            "};\n",
        ]
    )


def _typed(name: str, lowered: Lowered, number: int) -> str:
    """The typed function of the header."""
    graph = lowered.graph
    values = ", ".join([*(variable(n) for n in graph.dims), "0"])
    inputs = ", ".join([*(f"in_{identifier(v.name)}" for v in graph.inputs), "0"])
    outputs = ", ".join([*(f"out_{identifier(n)}" for n in graph.output_names), "0"])
    return f"""\
edgec_status {identifier(name)}_{identifier(graph.name)}({parameters(graph)}) {{
  const int64_t dims[] = {{{values}}};
  const void *const inputs[] = {{{inputs}}};
  void *const outputs[] = {{{outputs}}};
  return edgec_call(self, {number}, dims, inputs, outputs);
}}
"""
