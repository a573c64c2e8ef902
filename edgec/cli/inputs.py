"""Values of `--input NAME=VALUE` as tensors: files of arrays, numbers, text that is tokenized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgec.ir import Graph, TensorType
    from edgec.runner import Runner

_SHOWN = 6  # names in a list of what is missing


def read_inputs(given: dict[str, str], runner: Runner, graph: Graph) -> list[torch.Tensor]:
    """The inputs of a function, in order. Raises EdgecError for what does not fit its types."""
    values: dict[str, Any] = dict(given)
    types = {v.name: v.type for v in graph.inputs}
    if "text" in values and "text" not in types:
        values = _tokens(runner, values.pop("text"), values, graph)
    _check_names(values, types)
    return [_tensor(name, values[name], t) for name, t in types.items()]


def _check_names(given: dict[str, Any], types: dict[str, TensorType]) -> None:
    from edgec.errors import ValidationError

    missing = [f"{n} ({t})" for n, t in types.items() if n not in given]
    unknown = [n for n in given if n not in types]
    problems = [f"missing --input {_some(missing)}"] if missing else []
    problems += [f"unknown --input {_some(unknown)}"] if unknown else []
    if problems:
        need = f"--input {_some(list(types))}" if unknown else ""
        do = "`edgec inspect` shows the signature"
        raise ValidationError("run", "; ".join(problems), need, do)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _tokens(runner: Runner, text: str, given: dict[str, Any], graph: Graph) -> dict[str, Any]:
    """`given`, and the inputs that the text makes."""
    from edgec.errors import ValidationError
    from edgec.metrics.predict import tokenizer_of

    names = {v.name for v in graph.inputs}
    if not runner.tokenizer or "input_ids" not in names:
        got = "text=... for a function without a tokenizer or input_ids"
        raise ValidationError("--input", got, f"--input {_some(sorted(names))}")
    ids = tokenizer_of(runner).encode(text)
    made = {
        "input_ids": [ids],
        "attention_mask": [[1] * len(ids)],
        "token_type_ids": [[0] * len(ids)],
    }
    if twice := sorted(made.keys() & given.keys()):
        got = f"text=... beside {', '.join(twice)}"
        raise ValidationError("--input", got, "one of the two")
    return given | {n: v for n, v in made.items() if n in names}


# ------------------------------------------------------------------ one tensor
def _tensor(name: str, value: Any, kind: TensorType) -> torch.Tensor:
    """A tensor of the type's dtype from a file or numbers. Raises EdgecError."""
    if isinstance(value, str) and value.endswith(".npy"):
        return _cast(name, _from_npy(name, Path(value)), kind)
    if isinstance(value, str) and ".safetensors" in value:
        return _cast(name, _from_safetensors(name, value), kind)
    return _from_numbers(name, value, kind)


def _from_numbers(name: str, value: Any, kind: TensorType) -> torch.Tensor:
    import json

    import torch

    from edgec.errors import ValidationError

    try:
        numbers = json.loads(value) if isinstance(value, str) else value
        if not kind.dtype.is_float and torch.tensor(numbers).is_floating_point():
            raise ValueError("fractions")
        return torch.tensor(numbers, dtype=kind.dtype.torch_dtype)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # RecursionError too
        need = f"{kind} as FILE.npy or numbers such as [[1, 2]]"
        raise ValidationError(f"--input {name}", repr(value)[:60], need) from error


def _from_npy(name: str, path: Path) -> torch.Tensor:
    import numpy
    import torch

    from edgec.errors import FormatError

    try:
        with path.open("rb") as file:
            array = numpy.lib.format.read_array(file, allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise TypeError(array.dtype)
        native = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(numpy.ascontiguousarray(native).reshape(array.shape))
    except OSError as error:
        got = f"{path.name}: {error.strerror or error}"
        raise FormatError(f"--input {name}", got, "a .npy file of numbers") from error
    except Exception as error:  # a header is parsed as Python text: all kinds of errors
        do = "write it with numpy.save from an array of integers, floats or booleans"
        got = f"{path.name}, which is damaged or holds no numbers"
        raise FormatError(f"--input {name}", got, "a .npy file of numbers", do) from error


def _from_safetensors(name: str, value: str) -> torch.Tensor:
    from edgec.errors import FormatError
    from edgec.metrics.data import read_tensors

    file, _, key = value.partition(".safetensors:")
    path = Path(f"{file}.safetensors" if key else value)
    tensors = read_tensors(path)
    if (key or name) not in tensors:
        need = f"one of {_some(sorted(tensors))}"
        raise FormatError(f"--input {name}", f"{path.name} without {key or name}", need)
    return tensors[key or name]


def _cast(name: str, tensor: torch.Tensor, kind: TensorType) -> torch.Tensor:
    """The same numbers in the type's dtype; floats may be rounded, integers stay what they are."""
    import torch

    from edgec.errors import ValidationError

    made = tensor.to(kind.dtype.torch_dtype)
    exact = kind.dtype.is_float and not tensor.is_complex()
    if not exact and (tensor.is_floating_point() or not torch.equal(made.to(tensor.dtype), tensor)):
        got = f"{str(tensor.dtype).removeprefix('torch.')} values that {kind} cannot hold"
        raise ValidationError(f"--input {name}", got, f"{kind}")
    return made
