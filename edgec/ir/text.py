"""Text form of programs: printed and parsed, a round trip of all but the data of constants.

@w = const f32[8, 4] dense sha256:3f2a...
func @main(%x: f32[batch, 4]) dims(batch: 1..64) {
  %y: f32[batch, 8] = linear(%x, @w, _)
  %z: f32[batch, 8] = softmax(%y) {axis=-1}  # model.py:12
  return %z as probabilities
  state past <- present
}
"""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch

from edgec.errors import FormatError
from edgec.ir import dims
from edgec.ir.encoding import Constant, Dense
from edgec.ir.graph import Graph, Node, Range, State, Value
from edgec.ir.op import Op, op_class
from edgec.ir.program import Program
from edgec.ir.types import DType, TensorType

INLINE = 16  # dense constants of at most so many elements are printed with their values


# ------------------------------------------------------------------ printing
def show_program(program: Program) -> str:
    """The whole program; parse with `parse_program`."""
    used = set().union(*(g.used_constants() for g in program.graphs.values()))
    lines = [show_constant(c) for n, c in program.constants.items() if n in used]
    return "\n".join([*lines, *map(show_graph, program.graphs.values())]) + "\n"


def show_constant(constant: Constant) -> str:
    encoding = constant.encoding
    data = f"sha256:{encoding.digest[:16]}"
    if isinstance(encoding, Dense) and encoding.values.numel() <= INLINE:
        data = show_value(_nested(encoding.values.tolist()))
    return f"@{constant.name} = const {constant.type} {encoding.describe()} {data}"


def show_graph(graph: Graph) -> str:
    inputs = ", ".join(f"%{v.name}: {v.type}" for v in graph.inputs)
    bounds = ", ".join(f"{n}: {r.min}..{r.max}" for n, r in graph.dims.items())
    head = f"func @{graph.name}({inputs})" + (f" dims({bounds})" if bounds else "") + " {"
    results = zip(graph.outputs, graph.output_names, strict=True)
    tail = "  return " + ", ".join(f"{_ref(o)} as {n}" for o, n in results)
    states = [f"  state {s.input} <- {s.output}" for s in graph.states]
    return "\n".join([head, *("  " + show_node(n) for n in graph.nodes), tail, *states, "}"])


def show_node(node: Node) -> str:
    outputs = ", ".join(f"%{v.name}: {v.type}" for v in node.outputs)
    inputs = ", ".join("_" if n is None else _ref(n) for n in node.inputs)
    text = f"{outputs} = {node.op.name}({inputs}){show_attributes(node.op)}"
    return f"{text}  # {node.source}" if node.source else text


def _ref(name: str) -> str:
    return name if name.startswith("@") else f"%{name}"


def show_attributes(op: Any) -> str:
    """` {axis=-1}`: the fields of a dataclass that differ from their defaults, "" for none."""
    shown = [
        f"{f.name}={show_value(getattr(op, f.name))}"
        for f in dataclasses.fields(op)
        if f.default is dataclasses.MISSING or getattr(op, f.name) != f.default
    ]
    return f" {{{', '.join(shown)}}}" if shown else ""


def show_value(value: Any) -> str:
    """One attribute value; strings are quoted, dimensions and dtypes are not."""
    match value:
        case sympy.Expr():
            return dims.show(value)
        case DType():
            return value.value
        case tuple():
            return f"[{', '.join(map(show_value, value))}]"
        case str():
            return repr(value)
    return repr(value)


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


# ------------------------------------------------------------------ parsing attributes
def parse_attributes(cls: type[Any], text: str, where: str) -> Any:
    """Build the dataclass `cls` from `axis=-1, keep=True`, each value read as its field's type.

    Raises FormatError that lists every unknown, missing and ill-typed attribute.
    """
    need = "key=value, key=value"
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(where, f"attributes {{{text[:200]}}}", need) from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise FormatError(where, f"attributes {{{text[:200]}}}", need)
    known = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    problems = [f"positional value {ast.unparse(a)}" for a in call.args]
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg not in known:
            problems.append(f"unknown {keyword.arg} (known: {', '.join(known) or 'none'})")
            continue
        if keyword.arg in values:
            problems.append(f"{keyword.arg} given twice")
            continue
        try:
            values[keyword.arg] = read_value(keyword.value, hints[keyword.arg])
        except (FormatError, ValueError, TypeError):
            need = _type_name(hints[keyword.arg])
            problems.append(f"{keyword.arg}={ast.unparse(keyword.value)}, need {need}")
    problems += [
        f"missing {n}"
        for n, f in known.items()
        if n not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if problems:
        raise FormatError(where, "; ".join(problems))
    return cls(**values)


def read_value(tree: ast.expr, hint: Any) -> Any:
    """The value of a Python expression, read as type `hint`. Raises FormatError for a misfit."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _read_union(tree, args)
    if origin is typing.Literal:
        literal = ast.literal_eval(tree) if not isinstance(tree, ast.Name) else tree.id
        if literal in args:
            return literal
    elif origin is tuple and isinstance(tree, ast.List | ast.Tuple):
        item = args[0] if len(args) == 2 and args[1] is Ellipsis else None
        hints = [item] * len(tree.elts) if item is not None else list(args)
        if len(hints) == len(tree.elts):
            return tuple(read_value(e, h) for e, h in zip(tree.elts, hints, strict=True))
    elif hint is DType and isinstance(tree, ast.Name):
        return DType(tree.id)
    elif hint is sympy.Expr:
        return dims.from_ast(tree)
    elif hint is float:
        return _read_float(tree)
    elif hint in (bool, str, int, type(None)):
        if hint is str and isinstance(tree, ast.Name):
            return tree.id
        value = ast.literal_eval(tree)
        if type(value) is hint:
            return value
    raise FormatError("value", ast.unparse(tree), _type_name(hint))


def _read_union(tree: ast.expr, options: tuple[Any, ...]) -> Any:
    # int | sympy.Expr is a dimension: int is tried first, so that 4 stays a number
    for option in sorted(options, key=lambda o: (o is str, o is sympy.Expr)):
        try:
            return read_value(tree, option)
        except (FormatError, ValueError, TypeError, SyntaxError):
            continue
    raise FormatError("value", ast.unparse(tree), " | ".join(map(_type_name, options)))


def _read_float(tree: ast.expr) -> float:
    match tree:
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_read_float(inner)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
    raise FormatError("value", ast.unparse(tree), "a number")


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)


# ------------------------------------------------------------------ parsing programs
_CONST = re.compile(r"@([\w.]+) = const (\S+?\[[^\]]*\]) (.+)$")
_FUNC = re.compile(r"func @([\w.]+)\((.*?)\)(?: dims\((.*)\))? \{$")
_NODE = re.compile(r"(%.+?) = (\w+)\(([^(){}]*)\)(?: \{(.*)\})?(?:  # (.*))?$")
_VALUE = re.compile(r"%([\w.]+): (\w+\[[^\]]*\])")


def parse_program(text: str, constants: Mapping[str, Constant] | None = None) -> Program:
    """Read `show_program`'s text. Data of constants that are not inline comes from `constants`.

    Raises FormatError with the line number.
    """
    pool: dict[str, Constant] = {}
    program = Program({}, pool)
    lines = enumerate(text.splitlines(), 1)
    for number, raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if match := _CONST.match(line):
            pool[match[1]] = _parse_constant(match, constants or {}, number)
        elif match := _FUNC.match(line):
            graph = _parse_graph(match, lines, pool, number)
            program.graphs[graph.name] = graph
        else:
            raise FormatError(f"line {number}", repr(line[:60]), "a constant or a function")
    return program


def _parse_constant(match: re.Match[str], known: Mapping[str, Constant], number: int) -> Constant:
    name, kind = match[1], TensorType.parse(match[2])
    data = match[3].split(" ", 1)
    if name in known:
        if known[name].encoding.digest[:16] == match[3].rsplit("sha256:", 1)[-1] or len(data) > 1:
            return known[name]
    if data[0] != "dense" or "sha256:" in match[3]:
        raise FormatError(
            f"line {number}", f"@{name} without data", "its constant given to the parser"
        )
    try:
        values = eval_literal(data[1])
        shape = tuple(int(d) for d in kind.shape)
        tensor = torch.tensor(values, dtype=kind.dtype.torch_dtype).reshape(shape)
    except (ValueError, IndexError, RuntimeError, TypeError, SyntaxError) as error:
        raise FormatError(
            f"line {number}", f"@{name} = {match[3][:40]}", f"values of {kind}"
        ) from error
    return Constant(name, Dense(tensor))


def eval_literal(text: str) -> Any:
    """A nested list of numbers; inf and nan allowed."""
    tree = ast.parse(text.strip(), mode="eval").body

    def read(e: ast.expr) -> Any:
        if isinstance(e, ast.List):
            return [read(x) for x in e.elts]
        value = ast.literal_eval(e) if not _is_special(e) else _read_float(e)
        return value

    return read(tree)


def _is_special(e: ast.expr) -> bool:
    inner = e.operand if isinstance(e, ast.UnaryOp) else e
    return isinstance(inner, ast.Name) and not math.isfinite(float(inner.id))


def _parse_graph(
    head: re.Match[str], lines: Iterator[tuple[int, str]], pool: dict[str, Constant], number: int
) -> Graph:
    inputs = tuple(Value(n, TensorType.parse(t)) for n, t in _VALUE.findall(head[2]))
    graph = Graph(head[1], inputs, [], (), (), pool, _parse_dims(head[3] or "", number))
    states: list[State] = []
    for number, raw in lines:
        line = raw.strip()
        if line == "}":
            graph.states = tuple(states)
            return graph
        if line.startswith("return"):
            pairs = re.findall(r"([%@][\w.]+) as ([\w.]+)", line)
            graph.outputs = tuple(_unref(r) for r, _ in pairs)
            graph.output_names = tuple(n for _, n in pairs)
        elif match := re.match(r"state ([\w.]+) <- ([\w.]+)$", line):
            states.append(State(match[1], match[2]))
        elif match := _NODE.match(line):
            graph.nodes.append(_parse_node(match, number))
        elif line and not line.startswith("#"):
            raise FormatError(f"line {number}", repr(line[:60]), "a node, return, state or }")
    raise FormatError(f"line {number}", f"the end of the text inside of @{graph.name}", "}")


def _parse_dims(text: str, number: int) -> dict[str, Range]:
    out = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.match(r"(\w+): (-?\d+)\.\.(\d+)$", part)
        if match is None:
            raise FormatError(f"line {number}", repr(part), "name: min..max")
        out[match[1]] = Range(int(match[2]), int(match[3]))
    return out


def _parse_node(match: re.Match[str], number: int) -> Node:
    outputs, name, operands, attributes, source = match.groups()
    if (cls := op_class(name)) is None:
        raise FormatError(f"line {number}", f"op {name}", "an op of this version")
    op: Op = parse_attributes(cls, attributes or "", f"line {number}: {name}")
    inputs = tuple(
        None if o == "_" else _unref(o) for o in (x.strip() for x in operands.split(",")) if o
    )
    values = tuple(Value(n, TensorType.parse(t)) for n, t in _VALUE.findall(outputs))
    return Node(op, inputs, values, source or "")


def _unref(text: str) -> str:
    return text[1:] if text.startswith("%") else text
