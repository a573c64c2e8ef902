"""Greatest sizes: what memory is planned for. Never too small, whatever the expression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgec.errors import UnsupportedError
from edgec.ir import Graph, Range, dims
from edgec.ir.bounds import bounds
from edgec.ir.dims import Dim

#: A dimension without an upper bound has this one in its Range.
UNBOUNDED = Range().max


def check_bounded(graphs: Iterable[Graph]) -> None:
    """Raises UnsupportedError that names every dimension without an upper bound."""
    open_dims = sorted(
        {f"{g.name}: {n}" for g in graphs for n, r in g.dims.items() if r.max >= UNBOUNDED}
    )
    if open_dims:
        need = "a greatest size of every dimension, for which memory is planned"
        do = 'give max_sizes, as native{max_sizes="seq=512"}, or capture with a maximum'
        raise UnsupportedError("native", f"no maximum for {', '.join(open_dims)}", need, do)


def without_unbound(graph: Graph) -> Graph:
    """The function without dimensions that no input has: no caller could say what they are."""
    bound = dims.names(d for v in graph.inputs for d in v.type.shape)
    return graph.replace(dims={n: r for n, r in graph.dims.items() if n in bound})


def greatest(dim: Dim, ranges: Mapping[str, Range]) -> int:
    """Upper bound of a dimension over all admitted sizes, at least 0."""
    return max(bounds(dim, ranges)[1], 0)
