"""Typed reading of JSON objects that come from outside: every field is checked, none is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgec.errors import FormatError
from edgec.ir.types import DType

MAX_ELEMENTS = 2**40  # a tensor beyond that is damage, not a model


class Fields:
    """The fields of one JSON object. `done` raises FormatError for fields that nobody asked for."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping) or not all(isinstance(k, str) for k in data):
            raise FormatError(where, _short(data), "an object")
        self.where = where
        self._data: Mapping[str, Any] = data
        self._read: set[str] = set()

    def raw(self, name: str) -> Any:
        """The field as it is. Raises FormatError where it is missing."""
        if name not in self._data:
            raise FormatError(self.where, f"no field {name!r}", "it")
        self._read.add(name)
        return self._data[name]

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def integer(self, name: str, low: int = 0, high: int = 2**62) -> int:
        value = self.raw(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, value, f"an integer in [{low}, {high}]")
        return value

    def boolean(self, name: str) -> bool:
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str) -> str:
        value = self.raw(name)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        value = self.raw(name)
        if not isinstance(value, str) or value not in options:
            raise self._wrong(name, value, f"one of {', '.join(options)}")
        return value

    def dtype(self, name: str) -> DType:
        return DType(self.choice(name, tuple(d.value for d in DType)))

    def texts(self, name: str) -> list[str]:
        value = self.raw(name)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self._wrong(name, value, "a list of texts")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """A static shape of a reasonable number of elements."""
        value = self.raw(name)
        if not isinstance(value, list) or not all(type(v) is int and v >= 0 for v in value):
            raise self._wrong(name, value, "a list of sizes")
        count = 1
        for size in value:
            count *= max(size, 1)
            if count > MAX_ELEMENTS or len(value) > 64:
                raise self._wrong(name, value, f"at most {MAX_ELEMENTS} elements, 64 axes")
        return tuple(value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.raw(name)
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return value

    def done(self) -> None:
        if unknown := sorted(self._data.keys() - self._read):
            names = ", ".join(map(_short, unknown))
            raise FormatError(self.where, f"unknown field {names}", "none")

    def _wrong(self, name: str, value: object, need: str) -> FormatError:
        return FormatError(self.where, f"{name}={_short(value)}", need)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
