"""Kernels in TVM's tensor IR: what a model's C program calls. README.md says how to add one.

Importing this package loads neither TVM nor torch: a kernel is described by its fields, and TVM
is needed when it is compiled.
"""

from edgec.kernels.instruction_sets import INSTRUCTION_SETS, InstructionSet, get_instruction_set
from edgec.kernels.kernel import Kernel, Pointer, Size

__all__ = [
    "INSTRUCTION_SETS",
    "InstructionSet",
    "Kernel",
    "Pointer",
    "Size",
    "get_instruction_set",
]
