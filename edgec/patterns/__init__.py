"""Which keys each query of a sparse attention sees: patterns, their text, and what they cost.

A pattern is a union of parts, perhaps cut to the past:

    window(256) + global(64) + random(3, 64, 7)         BigBird
    (window(256) + global(1)) & causal()                a decoder

`visible` is its meaning. `parameters` is the same as plain integers, for tables and kernels.
"""

from edgec.patterns.density import density
from edgec.patterns.parts import BlockLocal, Causal, Dilated, Global, RandomBlocks, Strided, Window
from edgec.patterns.pattern import Pattern, Union
from edgec.patterns.text import parse

__all__ = [
    "BlockLocal",
    "Causal",
    "Dilated",
    "Global",
    "Pattern",
    "RandomBlocks",
    "Strided",
    "Union",
    "Window",
    "density",
    "parse",
]
