"""The C source of a model: one function per function of the program, one call per kernel."""

from __future__ import annotations

from collections.abc import Sequence

import edgec
from edgec.ir import dims
from edgec.kernels import Kernel
from edgec.targets.native.expressions import PREAMBLE, c_expression, identifier, variable
from edgec.targets.native.function_source import function_source
from edgec.targets.native.header import model_symbol, parameters
from edgec.targets.native.lower import Lowered
from edgec.targets.native.plan import Memory
from edgec.targets.native.platforms import Platform
from edgec.targets.native.tables import table_source
from edgec.targets.native.variants import kernel_tables


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
        *(function_source(f, memory) for f in functions),
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
