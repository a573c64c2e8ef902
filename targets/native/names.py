"""Names of a program that would be one and the same name in its C interface."""

from __future__ import annotations

from collections.abc import Iterable

from edgec.errors import UnsupportedError
from edgec.ir import Graph
from edgec.targets.native.expressions import identifier, variable

#: What follows the model's name in NAME.h beside its functions.
RESERVED = ("create", "destroy", "model")


def check_file_name(name: str) -> None:
    """Raises UnsupportedError for a prefix that gives names of the runtime or of the source."""
    if name in ("edgec", "run") or name.startswith("edgec_"):
        need = "another one: edgec_* and run_* are names of the runtime and of the generated source"
        raise UnsupportedError("native", f"file_name={name!r}", need)


def check_names(graphs: Iterable[Graph]) -> None:
    """Raises UnsupportedError for functions, dims, inputs or outputs that C cannot tell apart."""
    graphs = list(graphs)
    taken = {name: f"the model's own {name}" for name in RESERVED}
    _check("native", ((g.name, identifier(g.name)) for g in graphs), taken)
    for g in graphs:
        _check(g.name, ((n, variable(n)) for n in g.dims), {})
        _check(g.name, ((v.name, identifier(v.name)) for v in g.inputs), {})
        _check(g.name, ((n, identifier(n)) for n in g.output_names), {})


def _check(where: str, names: Iterable[tuple[str, str]], taken: dict[str, str]) -> None:
    """Pairs of a name and what it is in C."""
    for name, in_c in names:
        if in_c in taken:
            got = f"{name!r} and {taken[in_c]}, which are both called {in_c}"
            need = "names that differ in letters, digits and _"
            raise UnsupportedError(where, got, need, "rename one of them")
        taken[in_c] = repr(name)
