"""Tables of a target's README that say what it supports, made from what the target itself says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from edgec.errors import FormatError
from edgec.ir import Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.target import Verdict

START, END = "<!-- table: made by table.py -->", "<!-- end of table -->"


def encoding_table(
    samples: Mapping[str, Encoding], verdict: Callable[[Encoding], Verdict]
) -> Iterator[str]:
    """Lines of Markdown: what becomes of each of the constants."""
    yield "| constant | support | form |"
    yield "|---|---|---|"
    for name, encoding in samples.items():
        found = verdict(encoding)
        yield f"| {name} | {found.support.value} | {found.reason} |"


def affine(bits: int, dtype: DType = DType.F32) -> Affine:
    """[16, 16] with a scale for each row."""
    codes = torch.zeros(16, 16, dtype=torch.int8)
    return Affine(codes, torch.ones(16, 1), None, bits, dtype=dtype)


def dense() -> Dense:
    return Dense(torch.ones(16, 16))


def half() -> Dense:
    return Dense(torch.ones(16, 16).half(), DType.F32)


def lut() -> Lut:
    return Lut(torch.zeros(16, 16, dtype=torch.uint8), torch.ones(1, 1, 16, 1), 4)


def sparse() -> Sparse:
    return Sparse("bitmask", torch.ones(16, 16, dtype=torch.bool), affine(4))


def outliers() -> Outliers:
    return Outliers(affine(4), torch.zeros(1).long(), torch.ones(1).half())


def with_table(readme: Path, table: str) -> str:
    """The text of a README with its table between the marks. Raises FormatError without them."""
    before, _, rest = readme.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise FormatError(str(readme), "no marks of a table", f"{START} .. {END}")
    return f"{before}{START}\n{table}\n{END}{after}"
