"""NAME.h: the typed C interface of a model."""

from __future__ import annotations

from collections.abc import Sequence

import edgec
from edgec.ir import DType, Graph
from edgec.kernels.kernel import C_TYPES
from edgec.targets.native.expressions import identifier, variable
from edgec.targets.native.writer import TVM_TYPES


def model_symbol(name: str) -> str:
    """The constant that describes the model."""
    return f"{identifier(name)}_model"


def c_type(dtype: DType) -> str:
    return C_TYPES[TVM_TYPES[dtype]]


def parameters(graph: Graph) -> str:
    """Parameters of the typed function: dims, inputs, outputs."""
    listed = ["edgec_instance *self"]
    listed += [f"int64_t {variable(n)}" for n in graph.dims]
    listed += [f"const {c_type(v.type.dtype)} *in_{identifier(v.name)}" for v in graph.inputs]
    pairs = zip(graph.output_names, graph.output_types(), strict=True)
    listed += [f"{c_type(t.dtype)} *out_{identifier(n)}" for n, t in pairs]
    return ", ".join(listed)


def header(name: str, graphs: Sequence[Graph]) -> str:
    """The header; its comments have shapes, ranges and states."""
    prefix = identifier(name)
    guard = f"EDGEC_MODEL_{prefix.upper()}_H"
    lines = [
        f"/* {name}: compiled by edgec {edgec.__version__}. Weights: {name}.weights.",
        " *",
        " * Dims, then inputs, then outputs; buffers are row-major and aligned to their element,",
        " * and outputs overlap with nothing else.",
        " * NULL for an input and an output that are a state keeps it in the instance.",
        " */",
        f"#ifndef {guard}",
        f"#define {guard}\n",
        '#include "edgec/runtime.h"\n',
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif\n",
        f"extern const edgec_model {model_symbol(name)};\n",
        f"static inline edgec_status {prefix}_create(const char *weights_path,",
        "    const edgec_options *options, edgec_instance **out, char *error) {",
        f"  return edgec_create(&{model_symbol(name)}, weights_path, options, out, error);",
        "}",
        f"static inline void {prefix}_destroy(edgec_instance *self) {{ edgec_destroy(self); }}\n",
    ]
    for graph in graphs:
        lines += _declared(prefix, graph)
    lines += ["#ifdef __cplusplus", "}", "#endif", "#endif", ""]
    return "\n".join(lines)


def _declared(prefix: str, graph: Graph) -> list[str]:
    lines = [f"/* {graph.signature()}"]
    lines += [f" * {r.min} <= {n} <= {r.max}" for n, r in graph.dims.items()]
    lines += [f" * state: {s.output} becomes {s.input}" for s in graph.states]
    lines += [" */"]
    lines += [f"edgec_status {prefix}_{identifier(graph.name)}({parameters(graph)});\n"]
    return lines
