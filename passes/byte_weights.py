"""The layers whose weight has 8-bit codes: those that can quantize what they read as well."""

from __future__ import annotations

from edgec.ir import Affine, Node, Program, Sparse


def byte_weight(node: Node, program: Program) -> str | None:
    """The name of the weight of a linear or conv that is stored as 8-bit codes, else None."""
    ref = node.inputs[1] if len(node.inputs) > 1 else None
    if ref is None or not ref.startswith("@") or not hasattr(node.op, "activations"):
        return None
    stored = program.constants[ref[1:]].encoding
    if isinstance(stored, Sparse):
        stored = stored.values
    return ref[1:] if isinstance(stored, Affine) and stored.bits == 8 else None
