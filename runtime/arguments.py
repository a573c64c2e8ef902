"""Arguments of a call: checked against the description, in arrays whose places C can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.errors import ValidationError
from edgec.runtime.container import STORAGE
from edgec.runtime.description import Function, Tensor

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a function is called with, once or again and again; outputs are overwritten.

    inputs, outputs   None: a state that stays in the instance
    dims_c, ...       the C arrays, which hold addresses of those arrays' values
    """

    function: Function
    inputs: list[Array | None]
    outputs: list[Array | None]
    dims_c: Any
    inputs_c: Any
    outputs_c: Any

    def results(self) -> list[Array]:
        """The outputs that do not stay in the instance."""
        return [output for output in self.outputs if output is not None]


def arguments(
    function: Function,
    dims: Mapping[str, int] | Sequence[int],
    inputs: Sequence[Array | None],
    keep_states: bool,
) -> Arguments:
    """Raises ValidationError for what does not fit the function."""
    values = _dim_values(function, dims)
    _check_dims(function, values)
    arrays = _input_arrays(function, values, inputs)
    kept = {o for i, o in function.states if keep_states and arrays[i] is None}
    results = [
        None if index in kept else aligned_empty(tensor.sizes(values), STORAGE[tensor.dtype])
        for index, tensor in enumerate(function.outputs)
    ]
    dims_c = (c_int64 * max(len(values), 1))(*values)
    return Arguments(function, arrays, results, dims_c, _pointers(arrays), _pointers(results))


def aligned_empty(sizes: Sequence[int], dtype: np.dtype[Any], alignment: int = 64) -> Array:
    """An array of unset values whose first byte lies at a multiple of `alignment`."""
    count = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(count + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + count].view(dtype).reshape(sizes)


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
