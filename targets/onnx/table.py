"""The support table of the README, made from what `legal` says.

python -m edgec.targets.onnx.table        writes it into README.md beside this file
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.targets.onnx.legal import KERNELS, LIMITS, encoding_verdict

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
    ones = torch.ones(16, 1)
    codes = torch.zeros(16, 16, dtype=torch.int8)
    affine = {b: Affine(codes, ones, None, b) for b in (8, 4, 3)}
    return {
        "Dense": Dense(w),
        "Dense, f16 or bf16 of f32": Dense(w.half(), DType.F32),
        "Affine, 8 bits": affine[8],
        "Affine, 2 or 4 bits, rows of axis 0": affine[4],
        "Affine, all else": affine[3],
        "Lut": Lut(codes.to(torch.uint8), torch.ones(1, 1, 16, 1), 4),
        "Sparse of any": Sparse("bitmask", w.bool(), affine[4]),
        "Outliers over any": Outliers(affine[4], torch.zeros(1).long(), torch.ones(1).half()),
    }


def _ops() -> Iterator[str]:
    yield "| op | element types with a kernel | decomposed |"
    yield "|---|---|---|"
    for name in sorted(OPS):
        if name in KERNELS:
            own = ", ".join(d.value for d in DType if d in KERNELS[name])
            yield f"| {name} | {own} | {LIMITS.get(name, '')} |"
        else:
            yield f"| {name} | | always |"


def readme_with_table(text: str) -> str:
    """The README with its table made anew. Raises ValueError where the marks are missing."""
    before, _, rest = text.partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{README.name} has no {START} .. {END}")
    return f"{before}{START}\n{support_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(readme_with_table(README.read_text()))
