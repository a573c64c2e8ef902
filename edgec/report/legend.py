"""Encodings for readers: a short name and a colour each, the same in all charts of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgec.release.manifest import Constant

OTHER = "other"


@dataclass(frozen=True)
class Kind:
    """A way to store constants.

    label    for readers: `int4, group 32`
    family   what gives it its colour: int4, int8, lut, ...
    shade    0, 1, 2: tells kinds of one family apart
    """

    label: str
    family: str
    shade: int = 0

    @property
    def style(self) -> str:
        """Classes of the style sheet."""
        return f"k-{self.family} s{self.shade}"


GRAPH = Kind("graph, names, metadata", "graph")
_FAMILIES = ("f32", "f16", "int8", "int4", "int2", "lut", "sparse", "outliers", OTHER)


def name_of(encoding: str, dtype: str) -> tuple[str, str]:
    """(label, family) of an encoding's text form, as `affine(bits=4, group=32, scale=bf16)`.

    dtype   of the decoded tensor, which is what a dense one has
    """
    kind, _, inner = encoding.strip().partition("(")
    inner = inner.removesuffix(")")
    if kind == "dense":
        storage = inner or dtype
        wide = {"f32": "f32", "f16": "f16", "bf16": "f16"}
        return storage, wide.get(storage, OTHER)
    if kind == "affine":
        return _affine(inner)
    if kind == "lut":
        bits = _field(inner, "bits")
        vector = _field(inner, "vector")
        return f"{bits}-bit table" + (f" of {vector}-vectors" if vector else ""), "lut"
    if kind in ("sparse", "outliers"):
        head, _, base = inner.partition(", ")
        label = name_of(base, dtype)[0]
        if kind == "outliers":
            return f"{label} + outliers", "outliers"
        return f"{'2:4' if head == 'two_four' else 'masked'} {label}", "sparse"
    return encoding, OTHER


def _affine(fields: str) -> tuple[str, str]:
    bits, group = _field(fields, "bits"), _field(fields, "group")
    spread = "per tensor" if "axis=None" in fields else "per channel"
    label = f"int{bits}, {f'group {group}' if group else spread}"
    if "zero points" in fields:
        label += ", zero points"
    width = int(bits) if bits.isdigit() else 8
    return label, "int8" if width > 4 else "int4" if width == 4 else "int2"


def _field(fields: str, name: str) -> str:
    found = re.search(rf"\b{name}=(\w+)", fields)
    return found[1] if found else ""


def dtype_of(type_text: str) -> str:
    """`f32` of `f32[8000, 256]`."""
    return type_text.partition("[")[0]


def count_of(type_text: str) -> int:
    """Elements of a static type in text: 2048000 for `f32[8000, 256]`."""
    count = 1
    for number in re.findall(r"\d+", type_text.partition("[")[2]):
        count *= int(number)
    return count


class Legend:
    """Kinds of a page by the encoding of a constant; the plainest and widest first."""

    def __init__(self, constants: Iterable[Constant]) -> None:
        found = sorted(
            {name_of(c.encoding, dtype_of(c.type)) for c in constants},
            key=lambda n: (_FAMILIES.index(n[1]), n[0]),
        )
        used: dict[str, int] = {}
        self._kinds: dict[str, Kind] = {}
        for label, family in found:
            shade = used.get(family, 0)
            used[family] = shade + 1
            self._kinds[label] = Kind(label, family, shade % 3)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self._kinds.values())

    def of(self, constant: Constant) -> Kind:
        return self._kinds[name_of(constant.encoding, dtype_of(constant.type))[0]]
