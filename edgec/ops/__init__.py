"""The op set, one class per op, by family. Importing this package registers every op."""

from edgec.ops import (
    activations,
    attention,
    comparison,
    conv,
    creation,
    elementwise,
    gather,
    grid_sample,
    linear,
    movement,
    normalize,
    pool,
    recurrent,
    reduce,
    resize,
    spectral,
)

__all__ = [
    "activations",
    "attention",
    "comparison",
    "conv",
    "creation",
    "elementwise",
    "gather",
    "grid_sample",
    "linear",
    "movement",
    "normalize",
    "pool",
    "recurrent",
    "reduce",
    "resize",
    "spectral",
]
