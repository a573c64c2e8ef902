"""The graph IR: types, ops' contract, graphs, programs, encodings of constants."""

from edgec.ir.builder import Builder
from edgec.ir.dims import Dim, symbol
from edgec.ir.encoding import Constant, Dense, Encoding
from edgec.ir.encodings import Affine, Lut, Outliers, Sparse
from edgec.ir.graph import Graph, Node, Range, State, Value
from edgec.ir.op import OPS, Exactness, Op, op
from edgec.ir.program import Program
from edgec.ir.types import DType, TensorType

__all__ = [
    "OPS",
    "Affine",
    "Builder",
    "Constant",
    "DType",
    "Dense",
    "Dim",
    "Encoding",
    "Exactness",
    "Graph",
    "Lut",
    "Node",
    "Op",
    "Outliers",
    "Program",
    "Range",
    "Sparse",
    "State",
    "TensorType",
    "Value",
    "op",
    "symbol",
]
