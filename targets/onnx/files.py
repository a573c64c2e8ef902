"""The files of an artifact: models with their weights inside, or beside them in one shared file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from onnx import TensorProto

import edgec
from edgec.ir import DType, Program
from edgec.ir.encoding import tensor_bytes
from edgec.target import Artifact, StoredAs, Support
from edgec.targets.onnx.decode import stored_parts
from edgec.targets.onnx.legal import encoding_verdict
from edgec.targets.onnx.lower import lower_function
from edgec.targets.onnx.packed import INT8_ACTIVATIONS
from edgec.targets.onnx.writer import ONNX_DTYPE, Name, to_proto

if TYPE_CHECKING:
    from edgec.targets.onnx import Onnx

WEIGHTS = "weights.bin"
ALIGNMENT = 64  # bytes: a cache line, and what onnxruntime's kernels like to load from
INLINE_BYTES = 64  # tensors up to that size are in the model itself
LARGEST_MODEL = 2**31 - 2**24  # bytes; protobuf ends at 2 GiB


def write(program: Program, target: Onnx, folder: Path, recipe: str = "") -> Artifact:
    """Write a legalized program. Raises OSError where the folder cannot be written."""
    metadata = {
        "edgec.version": edgec.__version__,
        "edgec.target": str(target),
        "edgec.program": hashlib.sha256(program.text().encode()).hexdigest(),
        **({"edgec.recipe": recipe} if recipe else {}),
    }
    lowered = {n: lower_function(g, target, metadata) for n, g in program.graphs.items()}
    names = {f: "model.onnx" if len(lowered) == 1 else f"{f}.onnx" for f in lowered}
    owner, parts = _parts(program, {n for model in lowered.values() for n in model.weights})
    inside = len(lowered) == 1 and sum(map(nbytes, parts.values())) < LARGEST_MODEL
    offsets = {} if inside else _offsets(parts)
    home: dict[Name, str] = {}
    for function, (model, weights) in lowered.items():
        for name in weights:
            beside = name in offsets
            home.setdefault(name, WEIGHTS if beside else names[function])
            proto = _beside(name, parts[name], offsets[name]) if beside else None
            model.graph.initializer.append(proto or to_proto(name, parts[name]))
        (folder / names[function]).write_bytes(model.SerializeToString(deterministic=True))
    files = list(names.values())
    if not inside:
        _write_weights(folder / WEIGHTS, parts, offsets)
        files.append(WEIGHTS)
    return Artifact(tuple(files), _notes(target), _stored(program, parts, owner, home))


def _parts(program: Program, read: set[Name]) -> tuple[dict[Name, str], dict[Name, torch.Tensor]]:
    """The constant behind each initializer that some function reads, and its tensor."""
    owner: dict[Name, str] = {}
    parts: dict[Name, torch.Tensor] = {}
    used = set().union(*(g.used_constants() for g in program.graphs.values()))
    for constant in (c for n, c in program.constants.items() if n in used):
        for name, tensor in stored_parts(constant).items():
            if name in read:
                owner[name], parts[name] = constant.name, tensor
    return owner, parts


def nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _offsets(parts: Mapping[Name, torch.Tensor]) -> dict[Name, int]:
    """Where each tensor that is not tiny stands in the shared file."""
    offsets, end = {}, 0
    for name, tensor in parts.items():
        if nbytes(tensor) > INLINE_BYTES:
            offsets[name] = end
            end = -(-(end + nbytes(tensor)) // ALIGNMENT) * ALIGNMENT
    return offsets


def _beside(name: Name, tensor: torch.Tensor, offset: int) -> TensorProto:
    """An initializer whose bytes are in the shared file."""
    kind = ONNX_DTYPE[DType.of(tensor.dtype)]
    proto = TensorProto(name=name, data_type=kind, dims=tuple(tensor.shape))
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", nbytes(tensor))):
        proto.external_data.add(key=key, value=str(value))
    return proto


def _write_weights(
    path: Path, parts: Mapping[Name, torch.Tensor], offsets: Mapping[Name, int]
) -> None:
    with path.open("wb") as file:
        for name, offset in offsets.items():
            file.write(b"\0" * (offset - file.tell()))
            file.write(tensor_bytes(parts[name]))


# ------------------------------------------------------------------ the report
def _stored(
    program: Program,
    parts: Mapping[Name, torch.Tensor],
    owner: Mapping[Name, str],
    home: Mapping[Name, str],
) -> dict[str, StoredAs]:
    sizes: dict[str, int] = {}
    files: dict[str, str] = {}
    largest: dict[str, int] = {}
    for name, tensor in parts.items():
        constant, size = owner[name], nbytes(tensor)
        sizes[constant] = sizes.get(constant, 0) + size
        if size > largest.get(constant, -1):
            largest[constant], files[constant] = size, home[name]
    stored = {}
    for constant, size in sizes.items():
        encoding = program.constants[constant].encoding
        verdict = encoding_verdict(encoding)
        support, reason = verdict.support, verdict.reason
        if size > encoding.nbytes:
            support, reason = Support.WIDENED, f"{size} bytes instead of {encoding.nbytes}"
        stored[constant] = StoredAs(files[constant], size, support, encoding.describe(), reason)
    return stored


def _notes(target: Onnx) -> tuple[str, ...]:
    if target.accuracy_level == INT8_ACTIVATIONS:
        return ("accuracy_level=4: activations of packed products are rounded to int8",)
    return ()
