"""Greatest sizes: what memory is planned for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from edgec.errors import UnsupportedError
from edgec.ir import Graph, Range, dims
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


def greatest(dim: Dim, ranges: Mapping[str, Range]) -> int:
    """Upper bound of a dimension over all admitted sizes.

    The expressions of shapes are monotone in each name between its bounds, up to the steps of
    floor divisions; so the greatest value is at a corner, or less than one step from it.
    """
    names = sorted(dims.names([dim]))
    corners = itertools.product(*((ranges[n].min, ranges[n].max) for n in names))
    return max(dims.evaluate(dim, dict(zip(names, c, strict=True))) for c in corners)
