"""The kernel contract: a frozen dataclass is the whole content of one kernel, `emit` its code.

A kernel becomes one C function of an object file,

    void NAME(T *pointer, ..., int32_t size, ..., void *workspace, int32_t begin, int32_t end);

that does the items [begin, end) of its work and nothing else: no allocation, no global, no error
code, libc and libm at most. Items may be done in any order, by any number of threads, each with
its own workspace; the result does not depend on the split. Pointers are aligned to their element,
the workspace to 64 bytes; no two pointers overlap unless the kernel says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.instruction_sets import InstructionSet

if TYPE_CHECKING:
    from edgec.kernels.body import Body

#: C spelling of TVM's element types.
C_TYPES = {
    "float64": "double",
    "float32": "float",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "bool": "uint8_t",
}


@dataclass(frozen=True)
class Pointer:
    """A parameter `const T *name` (an input) or `T *name`; dtype as TVM spells it."""

    name: str
    dtype: str = "float32"
    output: bool = False

    @property
    def c(self) -> str:
        return f"{'' if self.output else 'const '}{C_TYPES[self.dtype]} *{self.name}"


@dataclass(frozen=True)
class Size:
    """A parameter `int32_t name` or `float name`: what is known when the kernel is called."""

    name: str
    dtype: str = "int32"

    @property
    def c(self) -> str:
        return f"{C_TYPES[self.dtype]} {self.name}"


#: Elements that are moved in about the time that it takes to hand a part of the work to a thread.
GRAIN = 16384


@dataclass(frozen=True)
class Kernel:
    """Base of all kernels: the fields are what is known when it is compiled, printed in its key.

    family   first word of the function's name, set by each class
    """

    family: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Kernels are equal where their keys are: 0.0, -0.0 and False are so as fields. `dataclass`
        keeps what a class has."""
        super().__init_subclass__()
        cls.__eq__ = Kernel._has_key_of  # type: ignore[assignment]
        cls.__hash__ = Kernel._hash_of_key  # type: ignore[assignment]

    def _has_key_of(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.key() == other.key()

    def _hash_of_key(self) -> int:
        return hash(self.key())

    def parameters(self) -> tuple[Pointer | Size, ...]:
        """All parameters in order, without workspace, begin and end."""
        raise NotImplementedError

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        """Number of items for values of the Size parameters, numbers or expressions."""
        raise NotImplementedError

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        """About how many elements an item reads or writes, where it does little else with them.

        `GRAIN` where an item is worth a thread of its own, as one of a product is.
        """
        return GRAIN

    def grain(self, sizes: Mapping[str, Dim]) -> Dim:
        """Least number of items that are worth a thread of their own."""
        each = dims.normal(self.item_elements(sizes))
        if isinstance(each, int):
            return max(1, GRAIN // max(each, 1))
        return dims.normal(sympy.Max(1, dims.floordiv(GRAIN, sympy.Max(each, 1))))

    def workspace_bytes(self, isa: InstructionSet) -> int:
        """Scratch memory that one call needs, whatever the sizes."""
        return 0

    def emit(self, body: Body, isa: InstructionSet) -> None:
        """Append the code of the loop over items to `body`."""
        raise NotImplementedError

    def key(self) -> str:
        """Text that names the content: equal keys mean equal code for one instruction set."""
        fields = ",".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
        return f"{self.family}({fields})"

    @property
    def name(self) -> str:
        """Name of the C function."""
        digest = hashlib.sha256(self.key().encode()).hexdigest()[:8]
        return f"edgec_k_{re.sub('[^a-z0-9]+', '_', self.family)}_{digest}"

    def prototype(self, suffix: str = "", prefix: str = "") -> str:
        """The C declaration."""
        shown = [p.c for p in self.parameters()]
        tail = ["void *workspace", "int32_t begin", "int32_t end"]
        return f"void {prefix}{self.name}{suffix}({', '.join(shown + tail)});"
