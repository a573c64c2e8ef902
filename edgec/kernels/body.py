"""The body of one kernel while it is written: TVM's IR builder with the parameters in place.

TVMScript's decorators parse Python source, which takes 0.3 s a kernel; its builder, used directly
as here, takes less than a millisecond for the same IR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgec.kernels.deferred import T, ir_builder, tvm
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer

#: Keeps a scratch buffer in the stack frame, where LLVM promotes it to registers; without it TVM
#: makes a heap allocation of one that has 1024 bytes or more.
ON_STACK = {"disable_lower_builtin": True}

#: Extent for buffers whose length the code need not know.
ANY = 1 << 30

_BYTES = {"float64": 8, "int64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2}
_BYTES |= {"int8": 1, "uint8": 1, "bool": 1}


def element_bytes(dtype: str) -> int:
    return _BYTES.get(dtype, 4)


class Body:
    """Parameters by name, and the statements that kernels are made of.

    begin, end   the range of items
    isa          instruction set

    `body["m"]` is the value of the Size m, `body.buffer("x", shape)` a view of the Pointer x.
    """

    def __init__(self, kernel: Kernel, isa: InstructionSet, name: str) -> None:
        self.isa = isa
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        self._pointers: dict[str, tuple[Any, Pointer]] = {}
        self._sizes: dict[str, Any] = {}
        for p in kernel.parameters():
            if isinstance(p, Pointer):
                self._pointers[p.name] = (T.arg(p.name, T.handle(p.dtype)), p)
            else:
                self._sizes[p.name] = T.arg(p.name, getattr(T, p.dtype)())
        self._workspace = T.arg("workspace", T.handle("float32"))
        self.begin = T.arg("begin", T.int32())
        self.end = T.arg("end", T.int32())

    def __getitem__(self, size: str) -> Any:
        return self._sizes[size]

    def buffer(self, name: str, shape: Sequence[Any] = (ANY,), strides: Any = None) -> Any:
        """A row-major view of a pointer parameter; alignment is that of an element."""
        data, p = self._pointers[name]
        align = element_bytes(p.dtype)
        return T.decl_buffer(tuple(shape), p.dtype, data=data, strides=strides, align=align)

    def workspace(self, shape: Sequence[Any], dtype: str = "float32", at: int = 0) -> Any:
        """A view of the workspace from element `at` on (in elements of `dtype`), 64-byte aligned.

        One kernel views its workspace in one dtype of four bytes.
        """
        return T.decl_buffer(tuple(shape), dtype, data=self._workspace, elem_offset=at, align=64)

    @staticmethod
    def registers(shape: Sequence[int], dtype: str = "float32") -> Any:
        """Scratch of constant size in the stack frame; LLVM keeps small ones in registers."""
        return T.alloc_buffer(tuple(shape), dtype, align=64, annotations=ON_STACK)

    @staticmethod
    def store(buffer: Any, value: Any, *index: Any) -> None:
        T.buffer_store(buffer, value, list(index))

    # loops: `with body.loop(0, n) as i:`
    @staticmethod
    def loop(start: Any, stop: Any) -> Any:
        return T.serial(start, stop)

    @staticmethod
    def unroll(count: int) -> Any:
        return T.unroll(0, count)

    @staticmethod
    def vector(lanes: int) -> Any:
        return T.vectorized(0, lanes)

    @contextmanager
    def items(self) -> Iterator[Any]:
        """The loop over this call's items.

        It counts from 0: where TVM shifts a loop to start there, it misses the start of a loop
        inside that depends on it.
        """
        with T.serial(0, self.end - self.begin) as i:
            yield T.bind(self.begin + i)

    @staticmethod
    def let(value: Any) -> Any:
        """A name for a value that is computed once."""
        return T.bind(value)

    @staticmethod
    def held(value: Any) -> Any:
        """As `let` for an i32, but TVM does not look through it.

        Its simplifier substitutes the values of names, which took seconds to minutes for chains of
        divisions, and overflowed. LLVM sees through the scratch element.
        """
        kept = T.alloc_buffer((1,), "int32", align=4, annotations=ON_STACK)
        T.buffer_store(kept, value, [0])
        return T.bind(kept[0])

    @staticmethod
    @contextmanager
    def when(condition: Any) -> Iterator[None]:
        with T.If(condition), T.Then():
            yield

    @staticmethod
    def f32(value: float) -> Any:
        return tvm.tirx.const(value, "float32")

    @staticmethod
    def i32(value: int) -> Any:
        return tvm.tirx.const(value, "int32")


def outer_index(body: Body, item: Any, extents: Sequence[Any]) -> list[Any]:
    """Indices along axes of these extents for a number that counts them row by row.

    With the machine's division: TVM's simplifier takes minutes over nested floor divisions.
    """
    index: list[Any] = []
    for extent in reversed(extents[1:]):
        index.insert(0, body.let(tvm.tirx.truncmod(item, extent)))
        item = body.let(tvm.tirx.truncdiv(item, extent))
    return [item, *index] if extents else []


def prim_func(kernel: Kernel, isa: InstructionSet, name: str = "") -> Any:
    """The PrimFunc of a kernel."""
    with ir_builder.IRBuilder() as builder:
        with T.prim_func(False, True):
            kernel.emit(Body(kernel, isa, name or kernel.name), isa)
    return builder.get()
