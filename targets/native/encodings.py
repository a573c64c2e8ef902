"""How constants of each encoding stand in the weights file."""

from __future__ import annotations

from edgec.ir import DType, Encoding
from edgec.ir.encoding import Dense
from edgec.ir.encodings import Affine, Lut, Outliers, Sparse
from edgec.target import NATIVE, Support, Verdict

DENSE_IN_16_BITS = "kernels widen 16-bit values as they read them"
PACKED_CODES = "packed codes, which kernels decode as they read them"
PACKED_INDICES = "packed indices and palettes, which kernels look up as they read them"
MASKED = "mask bits and kept values; kernels read both"
OUTLIERS = "outliers by parts of the base, which kernels put in as they decode it"
NOT_F32 = "kernels decode to f32 only: decoded at build time"


def encoding_verdict(encoding: Encoding) -> Verdict:
    """How a constant of this encoding is stored.

    Codes, scales and palettes are in the file as they are, rows filled up to whole panels of 32.
    Where an op has no kernel for them (see `Weights`) a plainer form is stored.
    """
    if encoding.is_plain:
        return NATIVE
    if encoding.type.dtype is not DType.F32:
        return Verdict(Support.WIDENED, NOT_F32)
    match encoding:
        case Dense():
            return Verdict(Support.DECODED, DENSE_IN_16_BITS)
        case Affine():
            return Verdict(Support.DECODED, PACKED_CODES)
        case Lut():
            return Verdict(Support.DECODED, PACKED_INDICES)
        case Sparse():
            return Verdict(Support.DECODED, MASKED)
        case Outliers():
            return Verdict(Support.DECODED, OUTLIERS)
    return Verdict(Support.UNSUPPORTED, f"no packed form of {encoding.kind}")
