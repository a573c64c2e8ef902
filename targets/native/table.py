"""The support tables of the README, made from what `legal` says.

python -m edgec.targets.native.table        writes them into README.md beside this file
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.legal import LIMITS
from edgec.targets.native.lower import LOWERINGS

README = Path(__file__).with_name("README.md")
START, END = "<!-- table: made by table.py -->", "<!-- end of table -->"


def support_table() -> str:
    """Markdown of all encodings and ops."""
    return "\n".join([*_encodings(), "", *_ops()])


def _encodings() -> Iterator[str]:
    yield "| constant | support | form |"
    yield "|---|---|---|"
    for name, encoding in _samples().items():
        verdict = encoding_verdict(encoding)
        yield f"| {name} | {verdict.support.value} | {verdict.reason} |"


def _samples() -> dict[str, Encoding]:
    """One constant of each kind that is told apart."""
    w = torch.ones(16, 16)
    codes = torch.zeros(16, 16, dtype=torch.int8)
    affine = Affine(codes, torch.ones(16, 1), None, 4)
    half = Affine(codes, torch.ones(16, 1), None, 4, dtype=DType.F16)
    return {
        "Dense": Dense(w),
        "Dense, f16 or bf16 of f32": Dense(w.half(), DType.F32),
        "Affine, 2 to 8 bits, any rows and groups": affine,
        "Lut, 1 to 8 bits, vectors, palettes by rows and columns": Lut(
            codes.to(torch.uint8), torch.ones(1, 1, 16, 1), 4
        ),
        "Sparse of any, bit masks and 2:4": Sparse("bitmask", w.bool(), affine),
        "Outliers over any": Outliers(affine, torch.zeros(1).long(), torch.ones(1).half()),
        "encoded, but f16 or bf16 when decoded": half,
    }


def _ops() -> Iterator[str]:
    yield "| op | kernels of its own | decomposed |"
    yield "|---|---|---|"
    for name in sorted(OPS):
        limits = "; ".join(why for _, why in LIMITS.get(name, ()))
        yield f"| {name} | yes | {limits} |" if name in LOWERINGS else f"| {name} | | always |"


def readme_with_table(text: str) -> str:
    """The README with its tables made anew. Raises ValueError where the marks are missing."""
    before, _, rest = text.partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{README.name} has no {START} .. {END}")
    return f"{before}{START}\n{support_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(readme_with_table(README.read_text()))
