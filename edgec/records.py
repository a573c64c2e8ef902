"""Typed records from JSON and TOML: dataclasses, every problem reported at once.

A record is a frozen dataclass whose fields are numbers, strings, booleans, None, Literals, tuples,
dictionaries with string keys and other records. `read` refuses unknown keys by name with the
nearest known one, `plain` gives the JSON value, `json_schema` the schema (draft 2020-12) of what
`read` accepts.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from edgec.errors import EdgecError, FormatError

T = TypeVar("T")


# ------------------------------------------------------------------ reading
def read(cls: type[T], data: Any, where: str, error: type[EdgecError] = FormatError) -> T:
    """An instance of the dataclass `cls` from plain data.

    Raises `error` listing every unknown key, missing key and value of a wrong type; `where` names
    the file.
    """
    problems: list[str] = []
    value = _read(cls, data, "", problems)
    if problems:
        raise error(where, "\n  ".join(problems), "", "correct these and try again")
    return typing.cast(T, value)


def _read(hint: Any, data: Any, path: str, problems: list[str]) -> Any:
    """`data` as type `hint`; what does not fit is added to `problems`, with its path."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return _read_union(args, data, path, problems)
    if origin is typing.Literal:
        if data in args and type(data) in {type(a) for a in args}:
            return data
    elif origin is tuple and isinstance(data, list | tuple):
        return tuple(_read(args[0], d, f"{path}[{i}]", problems) for i, d in enumerate(data))
    elif origin in (dict, Mapping) and isinstance(data, dict):
        return {k: _read(args[1], v, _join(path, k), problems) for k, v in data.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(data, dict):
        return _read_record(typing.cast(type[Any], hint), data, path, problems)
    elif hint is float and type(data) in (int, float) and math.isfinite(data):
        return float(data)
    elif hint in (bool, int, str, type(None)) and type(data) is hint:
        return data
    problems.append(f"{path or 'the whole'} = {_short(data)}, need {describe(hint)}")
    return None


def _read_union(args: tuple[Any, ...], data: Any, path: str, problems: list[str]) -> Any:
    tried: list[list[str]] = []
    for option in args:
        found: list[str] = []
        value = _read(option, data, path, found)
        if not found:
            return value
        tried.append(found)
    records = [t for a, t in zip(args, tried, strict=True) if dataclasses.is_dataclass(a)]
    if records and isinstance(data, dict):
        problems += records[0]  # the option that the data meant
    else:
        problems.append(f"{path} = {_short(data)}, need {' or '.join(map(describe, args))}")
    return None


def _read_record(cls: type[Any], data: dict[str, Any], path: str, problems: list[str]) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    before = len(problems)
    problems += [_unknown(key, fields, path) for key in data if key not in fields]
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(hints[name], data[name], _join(path, name), problems)
        elif not _has_default(field):
            problems.append(f"{_join(path, name)} is missing, need {describe(hints[name])}")
    return cls(**values) if len(problems) == before else None


def _unknown(key: str, known: Mapping[str, Any], path: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return f"unknown key {_join(path, key)} ({hint})"


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(hint: Any) -> str:
    """A type in words: `a number`, `a list of strings`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, args))
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in args)
    if origin is tuple:
        return f"a list, each {describe(args[0])}"
    if origin in (dict, Mapping):
        return f"a table, each value {describe(args[1])}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return "nothing" if hint is type(None) else names.get(hint, "a value")


# ------------------------------------------------------------------ writing
def plain(value: Any) -> Any:
    """JSON value of a record. Raises ValueError for a number that JSON does not have (nan, inf)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    return value


def finite(value: float) -> float | None:
    """`value`, or None where JSON has no number for it."""
    return float(value) if math.isfinite(value) else None


# ------------------------------------------------------------------ schema
def json_schema(cls: type[Any], title: str) -> dict[str, Any]:
    """JSON schema of a record and of all records inside; descriptions come from the docstrings."""
    definitions: dict[str, Any] = {}
    root = _schema(cls, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(a, definitions) for a in args]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    if dataclasses.is_dataclass(hint):
        return _record_schema(typing.cast(type[Any], hint), definitions)
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": names[hint]}


def _record_schema(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # breaks cycles; filled below
        hints = typing.get_type_hints(cls)
        fields = [f for f in dataclasses.fields(cls) if f.init]
        documented = field_texts(cls)
        properties = {}
        for f in fields:
            text = {"description": documented[f.name]} if f.name in documented else {}
            properties[f.name] = {**text, **_schema(hints[f.name], definitions)}
        definitions[cls.__name__] = {
            "description": (cls.__doc__ or "").strip().split("\n")[0],
            "type": "object",
            "properties": properties,
            "required": [f.name for f in fields if not _has_default(f)],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}


def field_texts(cls: type[Any]) -> dict[str, str]:
    """What a record's docstring says of its fields: lines `name   text`, deeper ones go on."""
    names = {f.name for f in dataclasses.fields(cls)}
    texts: dict[str, str] = {}
    last = ""
    for line in (cls.__doc__ or "").split("\n")[1:]:
        word, _, rest = line.strip().partition(" ")
        if word in names and rest.startswith(" "):
            last = word
            texts[last] = rest.strip()
        elif last and line.startswith(" " * 8) and line.strip():
            texts[last] += f" {line.strip()}"
        else:
            last = ""
    return texts
