"""The compressed encodings: affine codes, palettes, sparse masks, outliers kept aside."""

from edgec.ir.encodings.affine import Affine
from edgec.ir.encodings.lut import Lut
from edgec.ir.encodings.outliers import Outliers
from edgec.ir.encodings.sparse import Sparse

__all__ = ["Affine", "Lut", "Outliers", "Sparse"]
