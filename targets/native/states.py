"""Values that live in the instance between calls, and grow in place.

A KV cache [B, H, past, D] whose next form is [B, H, past + 1, D] lies in room for the most
positions: an axis that differs between input and output has the strides of its greatest size, so
that what a call adds is written behind what is there, and nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgec.ir import Graph, TensorType, dims
from edgec.ir.dims import Shape
from edgec.targets.native.sizes import greatest
from edgec.targets.native.views import Storage, View, dense_strides


@dataclass(frozen=True, eq=False)
class State:
    """Room for one state of a function.

    input, output   external names
    room            the shape that strides are those of: greatest sizes along axes that change
    grows           the axis that changes, None where none or several do
    """

    input: str
    output: str
    storage: Storage
    room: Shape
    grows: int | None

    def view(self, type: TensorType) -> View:
        """The state at its present size."""
        return View(self.storage, type, dense_strides(self.room))


def states_of(graph: Graph) -> Iterator[State]:
    """The states of a function with memory for the greatest sizes."""
    inputs = {v.name: v.type for v in graph.inputs}
    outputs = dict(zip(graph.output_names, graph.output_types(), strict=True))
    for state in graph.states:
        before, after = inputs[state.input], outputs[state.output]
        pairs = list(zip(before.shape, after.shape, strict=True))
        changed = [a for a, (m, n) in enumerate(pairs) if not dims.same(m, n)]
        room = tuple(
            max(greatest(m, graph.dims), greatest(n, graph.dims)) if a in changed else m
            for a, (m, n) in enumerate(pairs)
        )
        most = greatest(before.with_shape(*room).nbytes, graph.dims)
        storage = Storage("state", state.input, most)
        grows = changed[0] if len(changed) == 1 else None
        yield State(state.input, state.output, storage, room, grows)
