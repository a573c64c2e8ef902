"""The support tables of the README, made from what `legal` says.

python -m edgec.targets.native.table        writes them into README.md beside this file
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, DType
from edgec.targets import support_tables as tables
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.legal import LIMITS
from edgec.targets.native.lower import LOWERINGS

README = Path(__file__).with_name("README.md")

#: One constant of each kind that is told apart.
SAMPLES = {
    "Dense": tables.dense(),
    "Dense, f16 or bf16 of f32": tables.half(),
    "Affine, 2 to 8 bits, any rows and groups": tables.affine(4),
    "Lut, 1 to 8 bits, vectors, palettes by rows and columns": tables.lut(),
    "Sparse of any, bit masks and 2:4": tables.sparse(),
    "Outliers over any": tables.outliers(),
    "encoded, but f16 or bf16 when decoded": tables.affine(4, DType.F16),
}


def support_table() -> str:
    """Markdown of all encodings and ops."""
    return "\n".join([*tables.encoding_table(SAMPLES, encoding_verdict), "", *_ops()])


def _ops() -> Iterator[str]:
    yield "| op | kernels of its own | decomposed |"
    yield "|---|---|---|"
    for name in sorted(OPS):
        limits = "; ".join(why for _, why in LIMITS.get(name, ()))
        yield f"| {name} | yes | {limits} |" if name in LOWERINGS else f"| {name} | | always |"


if __name__ == "__main__":
    README.write_text(tables.with_table(README, support_table()))
