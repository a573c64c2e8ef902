"""A compiled model, loaded by its C interface for validation and benchmarks on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edgec.errors import EdgecError, FormatError, ValidationError
from edgec.runtime.arguments import Arguments, Array, arguments
from edgec.runtime.description import (
    ERROR_BYTES,
    COptions,
    CProfile,
    Function,
    describe,
)
from edgec.runtime.library import open_library

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
        given = self.prepare(function, dims, inputs, keep_states)
        self.call(given)
        return given.results()

    def prepare(
        self,
        function: str,
        dims: Mapping[str, int] | Sequence[int],
        inputs: Sequence[Array | None],
        keep_states: bool = True,
    ) -> Arguments:
        """The arguments of `run`, for `call`: what a benchmark does not want to measure."""
        return arguments(self._function(function), dims, inputs, keep_states)

    def call(self, given: Arguments) -> None:
        """Call a function; its outputs are then in `given.outputs`."""
        instance = self._open()
        status = self._library.edgec_call(
            instance, given.function.index, given.dims_c, given.inputs_c, given.outputs_c
        )
        if status == BUSY:  # the instance's own text belongs to the thread that is inside
            raise self._error(status, b"")
        if status:
            raise self._error(status, self._library.edgec_last_error(instance))

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

    def _error(self, status: int, text: bytes) -> EdgecError:
        name = self._library.edgec_status_name(status).decode()
        said = text.decode(errors="replace") or self._library.edgec_status_text(status).decode()
        kind = FormatError if status in FILE_STATUSES else ValidationError
        return kind(self._where, f"{name}: {said}")


def _load(path: Path) -> ctypes.CDLL:
    library = open_library(path)
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
