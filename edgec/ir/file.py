"""File form of programs: a folder of `program.json` (readable) and `constants.safetensors` (data).

`program.json` holds a version, the functions as IR text, how each constant is stored, the metadata,
the hash of the data file and its own hash. Loading believes nothing: both hashes, every field, the
digest of every constant, the text (it has to print again as it stands there) and the invariants of
the IR are checked, and anything else than a whole, unchanged file is a FormatError.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from edgec.errors import BuildError, EdgecError, FormatError, VerifyError
from edgec.ir.encoding import Constant, read_encoding, to_json
from edgec.ir.fields import Fields
from edgec.ir.program import Program
from edgec.ir.text import parse_program, show_program
from edgec.ir.types import DType

FORMAT = "edgec-program"
VERSION = 1
JSON_NAME = "program.json"
DATA_NAME = "constants.safetensors"


# ------------------------------------------------------------------ writing
def save(program: Program, folder: Path) -> None:
    """Write `program` to `folder`, which is made if need be; equal programs give equal bytes.

    The data file is replaced first, so that a write that is cut short is noticed by `load`.
    Raises VerifyError for a program that is ill-formed or that the file form cannot carry, and
    BuildError where the disk refuses.
    """
    program.verify()
    tensors, listed = _store(program.constants)
    data = safetensors.torch.save(tensors)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "text": _text(program).splitlines(),
        "trees": {n: [g.input_tree, g.output_tree] for n, g in program.graphs.items()},
        "constants": listed,
        "metadata": _plain(program.metadata),
        "data": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
    }
    text = _serialize({**content, "sha256": _hash(content)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / DATA_NAME, data)
        _replace(folder / JSON_NAME, text.encode())
    except OSError as error:
        raise BuildError(str(folder), str(error), "a folder that can be written to") from error


def _store(constants: Mapping[str, Constant]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by `constant:part`, and what program.json says about each constant."""
    tensors: dict[str, torch.Tensor] = {}
    listed: dict[str, Any] = {}
    for name, constant in constants.items():
        encoding = constant.encoding
        parts = encoding.parts()
        listed[name] = {
            "type": str(constant.type),
            "bytes": encoding.nbytes,
            "digest": encoding.digest,
            "encoding": to_json(encoding),
            "parts": sorted(parts),
        }
        # a copy each: safetensors refuses tensors that share memory
        tensors |= {
            f"{name}:{k}": t.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, t in parts.items()
        }
    return tensors, listed


def _text(program: Program) -> str:
    text = show_program(program)
    need = "names and source notes that the text form can carry"
    try:
        again = show_program(parse_program(text, program.constants))
    except FormatError as error:
        raise VerifyError("save", f"a program whose text cannot be read: {error}", need) from error
    if again != text:
        raise VerifyError("save", "a program whose text reads back differently", need)
    return text


def _plain(metadata: Mapping[str, Any]) -> Any:
    """The metadata, which has to be what JSON gives back. Raises VerifyError."""
    try:
        plain = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise VerifyError("save", f"metadata: {error}", "JSON values") from error
    if plain != metadata:
        raise VerifyError("save", "metadata with tuples or keys that are no texts", "JSON values")
    return plain


def _serialize(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_serialize(content).encode()).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside `path`, then put it in its place."""
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------ reading
def load(folder: Path) -> Program:
    """Read what `save` wrote. Raises FormatError for anything missing, damaged or newer."""
    fields = _read_json(folder / JSON_NAME)
    where = str(folder / JSON_NAME)
    tensors = _read_data(folder / DATA_NAME, fields.mapping("data"))
    constants = _read_constants(fields.mapping("constants"), tensors, where)
    text = "\n".join(fields.texts("text")) + "\n"
    try:
        program = parse_program(text, constants)
        if show_program(program) != text:
            raise FormatError(where, "a text that prints differently", "IR text as edgec prints it")
        program.constants.clear()
        program.constants.update(constants)
        program.metadata = fields.mapping("metadata")
        _read_trees(program, fields.mapping("trees"), where)
        program.verify()
    except FormatError:
        raise
    except EdgecError as error:
        raise FormatError(where, str(error), "a well-formed program") from error
    except Exception as error:  # whatever else a text from outside may provoke in the parser
        got = f"{type(error).__name__}: {str(error)[:80]}"
        raise FormatError(where, got, "IR text") from error
    fields.done()
    return program


def _read_json(path: Path) -> Fields:
    """The fields of program.json, after its format, version and hash were checked."""
    again = "save the program again"
    try:
        raw = path.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        raise FormatError(str(path), got, "a file that Program.save wrote") from error
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(str(path), f"no JSON: {error}", "an unchanged file", again) from error
    fields = Fields(content, str(path))
    fields.choice("format", (FORMAT,))
    version = fields.integer("version", 1)
    if version != VERSION:
        do = "update edgec" if version > VERSION else again
        raise FormatError(str(path), f"version {version}", f"version {VERSION}", do)
    rest = {k: v for k, v in content.items() if k != "sha256"}
    sha = fields.text("sha256")
    try:
        whole = _serialize({**rest, "sha256": _hash(rest)}).encode() == raw
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise FormatError(str(path), f"content that does not have hash {sha[:16]}", "it", again)
    return fields


def _read_data(path: Path, described: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of the data file, after its length and hash were checked."""
    fields = Fields(described, JSON_NAME)
    size, sha = fields.integer("bytes"), fields.text("sha256")
    fields.done()
    try:
        data = path.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        raise FormatError(str(path), got, "the data file of the program") from error
    again = "save the program again"
    if len(data) != size:
        raise FormatError(str(path), f"{len(data)} bytes", f"{size} bytes", again)
    if hashlib.sha256(data).hexdigest() != sha:
        raise FormatError(str(path), "changed content", f"SHA-256 {sha[:16]}...", again)
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise FormatError(str(path), f"{error}", "a safetensors file") from error


def _read_constants(
    listed: Mapping[str, Any], tensors: dict[str, torch.Tensor], where: str
) -> dict[str, Constant]:
    constants = {}
    for name, described in listed.items():
        fields = Fields(described, f"{where}: @{name}")
        parts = {}
        for key in fields.texts("parts"):
            tensor = tensors.pop(f"{name}:{key}", None)
            if tensor is None:
                raise FormatError(fields.where, f"no tensor for part {key}", f"it in {DATA_NAME}")
            parts[key] = tensor
        constants[name] = _read_constant(name, fields, parts)
    if tensors:
        raise FormatError(
            where, f"no constant for tensor {min(tensors)}", f"it or none in {DATA_NAME}"
        )
    return constants


def _read_constant(name: str, fields: Fields, parts: Mapping[str, torch.Tensor]) -> Constant:
    where = fields.where
    try:
        encoding = read_encoding(fields.mapping("encoding"), parts)
        for tensor in parts.values():
            DType.of(tensor.dtype)
        found = (str(encoding.type), encoding.nbytes, encoding.digest)
    except FormatError as error:
        raise FormatError(f"{where}: {error.where}", error.got, error.need, error.do) from error
    except (RuntimeError, RecursionError, MemoryError) as error:
        raise FormatError(where, str(error)[:80], "an encoding that can be read") from error
    stated = (fields.text("type"), fields.integer("bytes"), fields.text("digest"))
    fields.done()
    if found != stated:
        raise FormatError(where, f"{found[0]}, {found[1]} bytes", f"{stated[0]}, {stated[1]} bytes")
    return Constant(name, encoding)


def _read_trees(program: Program, trees: Mapping[str, Any], where: str) -> None:
    if trees.keys() != program.graphs.keys():
        raise FormatError(where, f"trees for {', '.join(trees)}", ", ".join(program.graphs))
    for name, pair in trees.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise FormatError(where, f"trees of {name}", "two texts")
        for tree in pair:
            _check_tree(tree, f"{where}: trees of {name}")
        program.graphs[name].input_tree, program.graphs[name].output_tree = pair


def _check_tree(tree: object, where: str) -> None:
    """Refuse what is no tree, and trees whose reader would import modules that the file names."""
    if tree == "":
        return
    if not isinstance(tree, str):
        raise FormatError(where, type(tree).__name__, "a text")
    try:
        protocol, _ = json.loads(tree)
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(where, "no tree", "JSON of a pytree spec") from error
    if protocol != 1 or "defaultdict" in tree or "__enum__" in tree:
        raise FormatError(where, tree[:40], "a pytree of protocol 1 without defaultdicts and enums")
