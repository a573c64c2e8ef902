"""From a module to an exported program in the operators that have a rule, with readable
failures."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from edgec.capture.conditions import Decision, recorded
from edgec.capture.registry import has_rule
from edgec.capture.sizes import symbolic_sizes
from edgec.capture.source import error_line
from edgec.errors import CaptureError, EdgecError

ROUNDS = 6  # of decomposing what has no rule; each round is one level of composition
_NOISE = re.compile(r"\n\s*(The error above occurred|For more information|For extended|Caused by)")


# ------------------------------------------------------------------ the module for a while
@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block the module is in eval mode and needs no gradients; afterwards it is as
    before."""
    training = [(m, m.training) for m in module.modules()]
    gradients = [(p, p.requires_grad) for p in module.parameters()]
    module.eval().requires_grad_(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in training:
            part.training = mode
        for parameter, needed in gradients:
            parameter.requires_grad_(needed)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Within the block nn.MultiheadAttention and nn.TransformerEncoder stay off their fused path,
    whose operators drop padded tokens and have no place in a graph."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch's warnings, log lines and dumps of half-made graphs stay unprinted within the block."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# ------------------------------------------------------------------ export
def check_inputs(module: nn.Module, inputs: Sequence[Any]) -> None:
    """Raise CaptureError unless `inputs` is a tuple of arguments that `forward` takes."""
    if not isinstance(inputs, tuple | list):
        got = f"inputs of type {type(inputs).__name__}"
        raise CaptureError("capture", got, "a tuple of forward's positional arguments")
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*inputs)
    except TypeError as error:
        takes = f"forward{signature}".replace("'", "")
        raise CaptureError("capture", f"{len(inputs)} inputs", takes, str(error)) from error


def export(
    module: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any
) -> tuple[ExportedProgram, list[Decision]]:
    """`torch.export` of a frozen module, functional, in operators that have a rule where torch
    knows how; and the conditions on sizes under which it holds.

    Raises CaptureError, one readable line, for whatever torch refuses.
    """
    try:
        with quiet(), plain_attention(), symbolic_sizes():
            with recorded() as conditions:
                exported = torch.export.export(
                    module,
                    inputs,
                    dynamic_shapes=dynamic_shapes,
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            return decompose(exported.run_decompositions({})), conditions
    except EdgecError:
        raise
    except Exception as error:  # torch raises dozens of types, builtin ones among them
        raise failure(error) from error


def live_calls(graph: fx.Graph) -> list[fx.Node]:
    """The calls that an output depends on by tensors, in order; symbolic sizes do not count."""
    live: set[fx.Node] = set()
    todo = [n for n in graph.nodes if n.op == "output"]
    while todo:
        node = todo.pop()
        if node not in live:
            live.add(node)
            todo += [n for n in node.all_input_nodes if not is_size(n)]
    return [n for n in graph.nodes if n.op == "call_function" and n in live]


def is_size(node: fx.Node) -> bool:
    """Whether a node computes a number from sizes rather than a tensor."""
    value = node.meta.get("val")
    return isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool)


def decompose(exported: ExportedProgram) -> ExportedProgram:
    """Let torch decompose the overloads that have no rule, where it has a decomposition."""
    tried: set[Any] = set()
    for _ in range(ROUNDS):
        missing = {
            node.target
            for node in live_calls(exported.graph)
            if isinstance(node.target, torch._ops.OpOverload) and not has_rule(str(node.target))
        }
        table = {op: how for op in missing - tried if (how := _decomposition(op)) is not None}
        if not table:
            break
        tried |= table.keys()
        exported = exported.run_decompositions(table)
    return exported


def _decomposition(op: torch._ops.OpOverload) -> Callable[..., Any] | None:
    known = torch._decomp.decomposition_table.get(op)
    if known is not None:
        return known
    table = torch.export.default_decompositions()
    return table[op] if op in table else None


# ------------------------------------------------------------------ failures
def failure(error: Exception) -> CaptureError:
    """What torch.export raised, as one line with the user's own source line where torch tells
    it."""
    text = str(error)
    line = error_line(error)
    where = f"capture {line}" if line else "capture"
    for pattern, build in _FAILURES:
        if match := re.search(pattern, text, re.S):
            return build(where, match)
    first = next((x.strip() for x in text.splitlines() if x.strip()), type(error).__name__)
    got = f"a failing forward: {type(error).__name__}: {first[:240]}"
    do = "run module(*inputs) to see whether the inputs fit, or rewrite what cannot be traced"
    return CaptureError(where, got, "a module that torch.export accepts", do)


def _constraints(where: str, match: re.Match[str]) -> CaptureError:
    text = _NOISE.split(match[0])[0]
    fixes = re.search(r"Suggested fixes:\s*(.*?)\s*(?:\n\n|$)", text, re.S)
    reasons = [x.strip(" -") for x in re.findall(r"\n\s+- (.*)", text)]
    got = "; ".join(reasons) or text.splitlines()[0]
    do = "change dynamic_shapes: " + "; ".join(fixes[1].split("\n")) if fixes else ""
    return CaptureError(
        where, got, "dimensions that hold over their whole range", re.sub(r"\s+", " ", do)
    )


def _data_dependent(where: str, match: re.Match[str]) -> CaptureError:
    need = "control flow and shapes that do not depend on the values of tensors"
    do = "replace the branch by torch.where, or fix the decision before capture"
    return CaptureError(where, f"a decision on tensor values, {match[1].strip()}", need, do)


def _not_equal(where: str, match: re.Match[str]) -> CaptureError:
    need = "one size for each named dimension"
    return CaptureError(where, match[0].strip(), need, "fix dynamic_shapes or the inputs")


def _mismatch(where: str, match: re.Match[str]) -> CaptureError:
    text = re.sub(r"\s+", " ", _NOISE.split(match[0])[0])
    need = "dynamic_shapes with one entry for each input"
    return CaptureError(where, text[:300], need, "compare dynamic_shapes with the inputs")


_FAILURES: list[tuple[str, Callable[[str, re.Match[str]], CaptureError]]] = [
    (r"(Constraints violated|Specializations unexpectedly required).*", _constraints),
    (r"Could not guard on data-dependent expression (.*?)(?: \(unhinted|\n|$)", _data_dependent),
    (
        r"Could not extract specialized integer from data-dependent expression (.*?)(?: \(|\n|$)",
        _data_dependent,
    ),
    (r"(\.item\(\)[^\n]*|data-dependent[^\n]*)", _data_dependent),
    (r"L\['[^\n]* is not equal to [^\n]*", _not_equal),
    (r"[^\n]*`?dynamic_shapes`?.*", _mismatch),
]
