"""From finished sums to the stored result: the chain of elementwise steps behind a product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.element_types import storage, to_storage
from edgec.kernels.kernel import Pointer, Size
from edgec.kernels.op_expressions import step_value
from edgec.kernels.steps import Epilogue

#: The epilogue that stores the sums as they are.
PLAIN = Epilogue()


def operand_parameters(epilogue: Epilogue) -> tuple[Pointer | Size, ...]:
    """Pointers e1, e2, ... and for each operand of extent "full" its row stride."""
    pointers = [Pointer(name) for name in epilogue.names()]
    return (*pointers, *(Size(f"{name}_stride") for name in full_names(epilogue)))


def full_names(epilogue: Epilogue) -> Sequence[str]:
    """Names of the operands with an element for each element of the result."""
    pairs = zip(epilogue.names(), epilogue.operands, strict=True)
    return [name for name, extent in pairs if extent == "full"]


def result_dtype(epilogue: Epilogue) -> str:
    """Element type of the result, as TVM spells it."""
    return epilogue.steps[-1].dtype if epilogue.steps else "float32"


def result_pointer(epilogue: Epilogue) -> Pointer:
    return Pointer("y", storage(result_dtype(epilogue)), output=True)


@dataclass(frozen=True)
class Finish:
    """Applies an epilogue to elements of a result [m, n] and stores them.

    views     the operands and y, by name
    strides   of the rows of y and of the operands of extent "full", by name
    """

    body: Body
    epilogue: Epilogue
    views: Mapping[str, Any]
    strides: Mapping[str, Any]

    @classmethod
    def of(cls, body: Body, epilogue: Epilogue, strides: Mapping[str, Any] | None = None) -> Finish:
        """`strides`: those of the Size parameters where they are not given."""
        views = {name: body.buffer(name) for name in (*epilogue.names(), "y")}
        names = (*full_names(epilogue), "y")
        return cls(body, epilogue, views, strides or {n: body[f"{n}_stride"] for n in names})

    def rows(self, count: Any, lanes: int, step: Callable[[Any], None]) -> None:
        """step(i) for i < count: in vectors, then in short ones, then one by one."""
        body = self.body
        done = body.i32(0)
        for width in (lanes, 4) if lanes > 4 else (lanes,):
            whole = body.let(done + (count - done) // width * width)
            with body.loop(0, (count - done) // width) as v, body.vector(width) as lane:
                step(done + v * width + lane)
            done = whole
        with body.loop(done, count) as i:
            step(i)

    def element(self, value: Any, row: Any, column: Any, channel: Any = None) -> None:
        """y[row, column] = chain(value).

        channel   index into operands of extent "column" where it is not the row
        """
        body = self.body
        values = [value]
        for name, extent in zip(self.epilogue.names(), self.epilogue.operands, strict=True):
            at = column if extent in ("full", "row") else body.i32(0)
            if extent == "full":
                at = row * self.strides[name] + column
            elif extent == "column":
                at = row if channel is None else channel
            values.append(self.views[name][at])
        for step in self.epilogue.steps:
            values.append(step_value(step, [values[i] for i in step.inputs]))
        stored = to_storage(values[-1], result_dtype(self.epilogue))
        body.store(self.views["y"], stored, row * self.strides["y"] + column)
