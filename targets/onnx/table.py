"""The support table of the README, made from what `legal` says.

python -m edgec.targets.onnx.table        writes it into README.md beside this file
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, DType
from edgec.targets import support_tables as tables
from edgec.targets.onnx.legal import KERNELS, LIMITS, encoding_verdict

README = Path(__file__).with_name("README.md")

#: One constant of each kind that is told apart.
SAMPLES = {
    "Dense": tables.dense(),
    "Dense, f16 or bf16 of f32": tables.half(),
    "Affine, 8 bits": tables.affine(8),
    "Affine, 2 or 4 bits, rows of axis 0": tables.affine(4),
    "Affine, all else": tables.affine(3),
    "Lut": tables.lut(),
    "Sparse of any": tables.sparse(),
    "Outliers over any": tables.outliers(),
}


def support_table() -> str:
    """Markdown of all encodings and ops."""
    return "\n".join([*tables.encoding_table(SAMPLES, encoding_verdict), "", *_ops()])


def _ops() -> Iterator[str]:
    yield "| op | element types with a kernel | decomposed |"
    yield "|---|---|---|"
    for name in sorted(OPS):
        if name in KERNELS:
            own = ", ".join(d.value for d in DType if d in KERNELS[name])
            yield f"| {name} | {own} | {LIMITS.get(name, '')} |"
        else:
            yield f"| {name} | | always |"


if __name__ == "__main__":
    README.write_text(tables.with_table(README, support_table()))
