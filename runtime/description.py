"""The structs of include/edgec/runtime.h as ctypes, and a compiled model's description in Python.

Field order and types are those of the header; `EDGEC_ABI` there is raised when they change.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any

from edgec.errors import FormatError
from edgec.runtime.container import DTYPES, MAX_RANK

ABI = 1
ERROR_BYTES = 256

ShapeFunction = CFUNCTYPE(None, POINTER(c_int64), POINTER(c_int64))


class CDim(Structure):
    _fields_ = (("name", c_char_p), ("min", c_int64), ("max", c_int64))


class CTensor(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("dtype", c_int),
        ("rank", c_int32),
        ("shape_text", c_char_p),
        ("shape", ShapeFunction),
    )


class CState(Structure):
    _fields_ = (("input", c_int32), ("output", c_int32))


class CFunction(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("dims", POINTER(CDim)),
        ("inputs", POINTER(CTensor)),
        ("outputs", POINTER(CTensor)),
        ("states", POINTER(CState)),
        ("n_dims", c_int32),
        ("n_inputs", c_int32),
        ("n_outputs", c_int32),
        ("n_states", c_int32),
        ("run", c_void_p),
    )


class CVariant(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("supported", c_void_p),
        ("kernels", c_void_p),
        ("tasks", c_void_p),
    )


class CModel(Structure):
    _fields_ = (
        ("abi", c_int32),
        ("name", c_char_p),
        ("version", c_char_p),
        ("weights_bytes", c_uint64),
        ("weights_hash", c_uint8 * 32),
        ("arena_bytes", c_uint64),
        ("workspace_bytes", c_uint64),
        ("variants", POINTER(CVariant)),
        ("functions", POINTER(CFunction)),
        ("kernel_names", POINTER(c_char_p)),
        ("n_variants", c_int32),
        ("n_functions", c_int32),
        ("n_kernels", c_int32),
    )


class COptions(Structure):
    _fields_ = (
        ("threads", c_int32),
        ("verify", c_int32),
        ("profile", c_int32),
        ("variant", c_char_p),
        ("weights", c_void_p),
        ("weights_size", c_size_t),
    )


class CProfile(Structure):
    _fields_ = (("calls", c_uint64), ("nanoseconds", c_uint64))


@dataclass(frozen=True)
class Dim:
    """A named dim with its range, both ends included."""

    name: str
    min: int
    max: int


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape_text` is its shape over the function's dims."""

    name: str
    dtype: str
    rank: int
    shape_text: str
    shape: Any  # ctypes function: dims -> sizes

    def sizes(self, dims: Sequence[int]) -> tuple[int, ...]:
        """The sizes for values of the function's dims, in the order of `Function.dims`."""
        values = (c_int64 * max(len(dims), 1))(*dims)
        sizes = (c_int64 * MAX_RANK)()
        self.shape(values, sizes)
        return tuple(sizes[: self.rank])


@dataclass(frozen=True)
class Function:
    """A function of a compiled model. `states` are pairs (input, output) of indices."""

    name: str
    index: int
    dims: tuple[Dim, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Description:
    """What a compiled model says about itself."""

    name: str
    version: str
    weights_bytes: int
    weights_hash: bytes
    arena_bytes: int
    workspace_bytes: int
    variants: tuple[str, ...]
    functions: dict[str, Function]
    kernels: tuple[str, ...]


def describe(library: ctypes.CDLL, where: str) -> tuple[Description, Any]:
    """The description of the model in a library, and the pointer that the C functions take.

    Raises FormatError where the library holds no model, or one of another ABI.
    """
    try:
        model_of = library.edgec_model_of
    except AttributeError:
        raise FormatError(where, "no symbol edgec_model_of", "a library built by edgec") from None
    model_of.restype = POINTER(CModel)
    pointer = model_of()
    if not pointer:
        raise FormatError(where, "NULL from edgec_model_of", "a library built by edgec")
    if pointer.contents.abi != ABI:  # before anything that lies elsewhere in another ABI
        raise FormatError(where, f"ABI {pointer.contents.abi}", str(ABI), "build it again")
    return _description(pointer.contents), pointer


def _description(model: CModel) -> Description:
    functions = [_function(i, model.functions[i]) for i in range(model.n_functions)]
    return Description(
        model.name.decode(),
        model.version.decode(),
        model.weights_bytes,
        bytes(model.weights_hash),
        model.arena_bytes,
        model.workspace_bytes,
        tuple(model.variants[i].name.decode() for i in range(model.n_variants)),
        {function.name: function for function in functions},
        tuple(model.kernel_names[i].decode() for i in range(model.n_kernels)),
    )


def _function(index: int, f: CFunction) -> Function:
    dims = (f.dims[i] for i in range(f.n_dims))
    return Function(
        f.name.decode(),
        index,
        tuple(Dim(dim.name.decode(), dim.min, dim.max) for dim in dims),
        tuple(_tensor(f.inputs[i]) for i in range(f.n_inputs)),
        tuple(_tensor(f.outputs[i]) for i in range(f.n_outputs)),
        tuple((f.states[i].input, f.states[i].output) for i in range(f.n_states)),
    )


def _tensor(t: CTensor) -> Tensor:
    return Tensor(t.name.decode(), DTYPES[t.dtype], t.rank, t.shape_text.decode(), t.shape)
