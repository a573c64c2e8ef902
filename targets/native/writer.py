"""The state of one function's lowering: where each value lives, and the statements so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import Constant, DType, Graph, Node, TensorType, dims
from edgec.ir.dims import Dim
from edgec.kernels import Kernel, Pointer
from edgec.kernels.copy import Copy
from edgec.kernels.decode import Decode
from edgec.kernels.weight_matrices import matrix_shape
from edgec.patterns import Pattern
from edgec.targets.native.sizes import greatest
from edgec.targets.native.statements import Call, Comment, CopyState, Statement
from edgec.targets.native.states import State
from edgec.targets.native.tables import BuildTable, Table
from edgec.targets.native.views import Place, Storage, View
from edgec.targets.native.weights import Weights

#: What TVM calls the element types.
TVM_TYPES = {
    DType.F64: "float64",
    DType.F32: "float32",
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.I64: "int64",
    DType.I32: "int32",
    DType.I16: "int16",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.BOOL: "bool",
}


class Writer:
    """One function.

    graph        the legalized function
    weights      what goes into the weights file, shared by all functions
    statements   appended by lowerings
    absorbed     results that another node's kernel stores
    deferred     elementwise nodes that their only user computes, by the name of their result
    states       by the name of their input
    """

    def __init__(self, graph: Graph, weights: Weights, states: Mapping[str, State]) -> None:
        self.graph = graph
        self.weights = weights
        self.states = states
        self.statements: list[Statement] = []
        self.views: dict[str, View] = {}
        self.deferred: dict[str, Node] = {}
        self.absorbed: set[str] = set()
        self._dense: dict[str, View] = {}
        self._decoded: dict[str, View] = {}
        self._users = graph.users()

    # -------------------------------------------------------------- operands
    def view(self, name: str) -> View:
        """An operand as it lies in memory, strides and all; a constant decoded by rows."""
        if name.startswith("@"):
            return self.constant(self.graph.constants[name[1:]])
        return self.views[name]

    def dense(self, name: str) -> View:
        """An operand row-major without gaps; copied once where it is not."""
        view = self.view(name)
        if view.is_dense:
            return view
        if name not in self._dense:
            self._dense[name] = self.copied(view)
        return self._dense[name]

    def row_major(self, view: View) -> View:
        """A view without gaps: itself, or a copy."""
        return view if view.is_dense else self.copied(view)

    def constant(self, constant: Constant) -> View:
        """The values of a constant: from the weights file, or decoded when the function runs."""
        if constant.encoding.is_plain or constant.type.dtype is not DType.F32:
            return self.weights.dense(constant)
        if constant.name not in self._decoded:
            self._decoded[constant.name] = self._decode(constant)
        return self._decoded[constant.name]

    def _decode(self, constant: Constant) -> View:
        """The values of an encoded constant, by a kernel."""
        spec, packed = self.weights.panels(constant)
        n, k = matrix_shape(constant.encoding)
        to = self.temporary(constant.type, constant.name)
        self.call(Decode(spec), [*packed, to], n=n, k=k, y_stride=k)
        return to

    def scalar(self, name: str) -> float | int | bool | None:
        """The value of a constant with one element, None for anything else."""
        constant = self.graph.constant(name)
        if constant is None or constant.type.numel != 1:
            return None
        value: float | int | bool = constant.encoding.decode().reshape(()).item()
        return value

    def users_of(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return self._users.get(name, [])

    def only_user(self, name: str) -> bool:
        """Whether a value is read by one node and is no output."""
        return len(self._users.get(name, ())) == 1 and name not in self.graph.outputs

    def table(self, pattern: Pattern, tokens: Dim) -> Table:
        """The block table of a pattern, made ready for so many tokens."""
        table = self.weights.table(pattern, greatest(tokens, self.graph.dims))
        self.statements.append(BuildTable(table, tokens))
        return table

    # -------------------------------------------------------------- results
    def temporary(self, type: TensorType, name: str) -> View:
        """Room for a value, row-major."""
        return View.whole(Storage("arena", name, type.nbytes), type)

    def define(self, name: str, view: View) -> None:
        self.views[name] = view

    def is_overwritable(self, view: View, node: Node) -> bool:
        """Whether `node` may write into the memory of an operand: nothing behind it, nor an
        elementwise node that was left to a later one, reads that memory under any name, and no
        output is a view of it."""
        names = {n for n, v in self.views.items() if v.storage is view.storage}
        place = next(i for i, n in enumerate(self.graph.nodes) if n is node)
        readers = [*self.graph.nodes[place + 1 :], *self.deferred.values()]
        read = {name for reader in readers for name in reader.operands}
        return names.isdisjoint(read) and names.isdisjoint(self.graph.outputs)

    # -------------------------------------------------------------- statements
    def comment(self, text: str) -> None:
        self.statements.append(Comment(text))

    def call(
        self,
        kernel: Kernel,
        pointers: Sequence[View | Place | None],
        **sizes: Dim | float,
    ) -> None:
        """Append a call; pointers in the order of the kernel's parameters."""
        given = [p.place if isinstance(p, View) else p for p in pointers]
        wanted = [p for p in kernel.parameters() if isinstance(p, Pointer)]
        assert len(given) == len(wanted), f"{kernel.family}: {len(given)} of {len(wanted)} pointers"
        self.statements.append(Call(kernel, tuple(given), sizes))

    def copied(self, view: View) -> View:
        """A row-major copy."""
        made = self.temporary(view.type, view.storage.name)
        self.copy(view, made)
        return made

    def copy(self, source: View, to: View) -> None:
        """Copy elements between views of one shape."""
        self.statements.append(copy_call(source, to))

    def copy_state(self, source: View, to: View, external: Storage) -> None:
        call = copy_call(source, to)
        self.statements.append(CopyState(call, external))


def copy_call(source: View, to: View) -> Call:
    """The call that copies between views of one shape: axes that are dense together are merged."""
    axes = _merged(source, to)
    unit = axes[-1][1] == 1 and axes[-1][2] == 1
    kernel = Copy(len(axes), source.type.dtype.nbytes, unit)
    sizes: dict[str, Dim | float] = {}
    for i, (n, s, d) in enumerate(axes):
        sizes |= {f"n{i}": n, f"s{i}": s, f"d{i}": d}
    return Call(kernel, (source.place, to.place), sizes)


def _merged(source: View, to: View) -> list[tuple[Dim, Dim, Dim]]:
    """(extent, stride of the source, stride of the destination) of the axes that are left."""
    axes: list[tuple[Dim, Dim, Dim]] = []
    for n, s, d in zip(source.shape, source.strides, to.strides, strict=True):
        if n == 1:
            continue
        if axes:
            m, outer_s, outer_d = axes[-1]
            if dims.same(outer_s, dims.normal(n * s)) and dims.same(outer_d, dims.normal(n * d)):
                axes[-1] = (dims.normal(m * n), s, d)
                continue
        axes.append((n, s, d))
    if not axes:
        axes = [(1, 1, 1)]
    if len(axes) == 1:  # items are rows: give the threads and the loop one each
        axes.insert(0, (1, 0, 0))
    return axes
