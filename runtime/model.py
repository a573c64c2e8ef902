"""A compiled model, loaded by its C interface for validation and benchmarks on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.errors import EdgecError, FormatError, ValidationError
from edgec.runtime.container import STORAGE
from edgec.runtime.description import (
    ERROR_BYTES,
    COptions,
    CProfile,
    Function,
    Tensor,
    describe,
)

Array = npt.NDArray[np.generic]

BUSY = 5
# Statuses from 16 to 31 are about files (runtime.h).
FILE_STATUSES = range(16, 32)


@dataclass(frozen=True)
class KernelTime:
    """What a kernel took since the model was loaded."""

    kernel: str
    calls: int
    nanoseconds: int


class Model:
    """An instance of a compiled model. Use it as a context, or `close` it.

    library_path  the shared library that a build wrote
    weights_path  its NAME.weights
    threads       that kernels are split over, the caller's included
    variant       instruction set by name; None: the best that this CPU has
    profile       count calls and time of each kernel
    verify        hash the weights when they are opened

    Raises FormatError for files that cannot be used and ValidationError for everything else, with
    the text of the C library.
    """

    def __init__(
        self,
        library_path: str | Path,
        weights_path: str | Path,
        threads: int = 1,
        variant: str | None = None,
        profile: bool = False,
        verify: bool = True,
    ) -> None:
        self._instance = c_void_p()
        self._where = str(library_path)
        # ctypes looks for a bare name in the system's folders.
        self._library = _load(Path(library_path).absolute())
        self.description, self._model = describe(self._library, self._where)
        options = COptions(threads, verify, profile, variant and variant.encode(), None, 0)
        error = ctypes.create_string_buffer(ERROR_BYTES)
        status = self._library.edgec_create(
            self._model,
            str(weights_path).encode(),
            ctypes.byref(options),
            ctypes.byref(self._instance),
            error,
        )
        if status:
            raise self._error(status, error.value)

    @property
    def functions(self) -> dict[str, Function]:
        """Functions by name."""
        return self.description.functions

    @property
    def variant(self) -> str:
        """Name of the instruction set that is used, "" for a model without kernels."""
        name: bytes = self._library.edgec_variant_of(self._open())
        return name.decode()

    def run(
        self,
        function: str,
        dims: Mapping[str, int] | Sequence[int],
        inputs: Sequence[Array | None],
        keep_states: bool = True,
    ) -> list[Array]:
        """Call a function; returns its outputs in the order of the description.

        An input that is None is a state kept in the instance. Where a state's input is None and
        `keep_states` is set, its output stays in the instance too and is left out of the result;
        otherwise it is returned. Arrays are bf16 as u16 bits.
        """
        about = self._function(function)
        values = _dim_values(about, dims)
        _check_dims(about, values)
        arrays = _input_arrays(about, values, inputs)
        kept = {o for i, o in about.states if keep_states and arrays[i] is None}
        results = [
            None if index in kept else aligned_empty(tensor.sizes(values), STORAGE[tensor.dtype])
            for index, tensor in enumerate(about.outputs)
        ]
        self._call(about, values, arrays, results)
        return [result for result in results if result is not None]

    def profile(self) -> list[KernelTime]:
        """Calls and time of each kernel since the model was loaded; [] unless asked for."""
        times = self._library.edgec_profile_of(self._open())
        if not times:
            return []
        return [
            KernelTime(name, times[i].calls, times[i].nanoseconds)
            for i, name in enumerate(self.description.kernels)
        ]

    def close(self) -> None:
        """Give memory and threads back. More than once is fine."""
        instance, self._instance = self._instance, c_void_p()
        if instance:
            self._library.edgec_destroy(instance)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_instance", None):
            self.close()

    def _open(self) -> c_void_p:
        if not self._instance:
            raise ValidationError(self._where, "a closed model", "an open one")
        return self._instance

    def _function(self, name: str) -> Function:
        found = self.functions.get(name)
        if found is None:
            known = ", ".join(self.functions)
            raise ValidationError(self._where, f"function {name!r}", f"one of: {known}")
        return found

    def _call(
        self,
        function: Function,
        values: Sequence[int],
        inputs: Sequence[Array | None],
        outputs: Sequence[Array | None],
    ) -> None:
        instance = self._open()
        status = self._library.edgec_call(
            instance,
            function.index,
            (c_int64 * max(len(values), 1))(*values),
            _pointers(inputs),
            _pointers(outputs),
        )
        if status == BUSY:  # the instance's own text belongs to the thread that is inside
            raise self._error(status, b"")
        if status:
            raise self._error(status, self._library.edgec_last_error(instance))

    def _error(self, status: int, text: bytes) -> EdgecError:
        name = self._library.edgec_status_name(status).decode()
        said = text.decode(errors="replace") or self._library.edgec_status_text(status).decode()
        kind = FormatError if status in FILE_STATUSES else ValidationError
        return kind(self._where, f"{name}: {said}")


def aligned_empty(sizes: Sequence[int], dtype: np.dtype[Any], alignment: int = 64) -> Array:
    """An array of unset values whose first byte lies at a multiple of `alignment`."""
    count = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(count + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + count].view(dtype).reshape(sizes)


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise FormatError(str(path), str(error), "a shared library for this machine") from error
    try:
        library.edgec_create.restype = c_int32
        library.edgec_create.argtypes = [c_void_p, c_char_p, c_void_p, c_void_p, c_char_p]
        library.edgec_destroy.restype = None
        library.edgec_destroy.argtypes = [c_void_p]
        library.edgec_call.restype = c_int32
        library.edgec_call.argtypes = [c_void_p, c_int32, c_void_p, c_void_p, c_void_p]
        library.edgec_profile_of.restype = POINTER(CProfile)
        library.edgec_profile_of.argtypes = [c_void_p]
        for name in ("edgec_last_error", "edgec_variant_of"):
            getattr(library, name).restype = c_char_p
            getattr(library, name).argtypes = [c_void_p]
        for name in ("edgec_status_name", "edgec_status_text"):
            getattr(library, name).restype = c_char_p
            getattr(library, name).argtypes = [c_int32]
    except AttributeError as error:
        raise FormatError(str(path), str(error), "a library built by edgec") from error
    return library


def _pointers(arrays: Sequence[Array | None]) -> Any:
    pointers = [None if array is None else array.ctypes.data for array in arrays]
    return (c_void_p * max(len(pointers), 1))(*pointers)


def _dim_values(function: Function, dims: Mapping[str, int] | Sequence[int]) -> list[int]:
    names = [dim.name for dim in function.dims]
    if isinstance(dims, Mapping):
        if sorted(dims) != sorted(names):
            raise ValidationError(function.name, f"dims {sorted(dims)}", f"{names}")
        return [int(dims[name]) for name in names]
    if len(dims) != len(names):
        raise ValidationError(function.name, f"{len(dims)} dims", f"{len(names)}: {names}")
    return [int(value) for value in dims]


def _check_dims(function: Function, values: Sequence[int]) -> None:
    """Before buffers of these sizes are reserved."""
    for dim, value in zip(function.dims, values, strict=True):
        if not dim.min <= value <= dim.max:
            need = f"{dim.min} <= {dim.name} <= {dim.max}"
            raise ValidationError(function.name, f"{dim.name}={value}", need)


def _input_arrays(
    function: Function, values: Sequence[int], inputs: Sequence[Array | None]
) -> list[Array | None]:
    if len(inputs) != len(function.inputs):
        need = f"{len(function.inputs)}: {[tensor.name for tensor in function.inputs]}"
        raise ValidationError(function.name, f"{len(inputs)} inputs", need)
    return [
        None if given is None else _input_array(function, tensor, tensor.sizes(values), given)
        for tensor, given in zip(function.inputs, inputs, strict=True)
    ]


def _input_array(function: Function, tensor: Tensor, sizes: tuple[int, ...], given: Array) -> Array:
    storage = STORAGE[tensor.dtype]
    given = np.asarray(given)
    if given.dtype != storage or given.shape != sizes:
        raise ValidationError(
            f"{function.name} {tensor.name}",
            f"{given.dtype}{list(given.shape)}",
            f"{storage}{list(sizes)} for {tensor.dtype}{tensor.shape_text}",
        )
    if given.flags.c_contiguous and given.ctypes.data % 64 == 0:
        return given
    array = aligned_empty(sizes, storage)
    array[...] = given
    return array
