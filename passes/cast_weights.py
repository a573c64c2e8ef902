"""cast-weights: constants stored in 16 bits, widened where they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Constant, Dense, DType, Exactness, Program, Sparse
from edgec.passes.weight_pass import relative_error
from edgec.passes.weights import Selection
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class CastWeights(Pass):
    """Store f32 constants as f16 or bf16; nodes see them as f32, as before.

    Given    @w = const f32[N, K] dense             %y = linear(%x, @w)
    Result   @w = const f32[N, K] dense(f16)        %y = linear(%x, @w)

    dtype           f16 (11 significant bits, up to 65504) or bf16 (8 bits, the range of f32)
    include, skip   patterns of names of constants
    min_numel       smaller constants stay: they save nothing, and the small vectors of a model are
                    often not weights but frequencies, epsilons and limits, where 11 bits do harm

    The values of a Sparse are cast under its mask.

    Keeps    every node, type and name; what is compressed otherwise. Left as they are and reported:
             constants with a finite value that would become infinite.
    Effect   LOSSY: |w - w'| <= 2^-11 |w| (f16, above 6.1e-5) or 2^-8 |w| (bf16)
    """

    name: ClassVar[str] = "cast-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    dtype: Literal["f16", "bf16"] = "f16"
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    min_numel: int = 256

    def __post_init__(self) -> None:
        if self.min_numel < 0:
            raise PassError(self.name, f"min_numel={self.min_numel}", "min_numel >= 0")

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = selected.idle_notes(program.constants)
        errors: dict[str, float] = {}
        small = 0
        for name, constant in program.constants.items():
            stored = constant.encoding
            inner = stored.values if isinstance(stored, Sparse) else stored
            if name not in selected or not isinstance(inner, Dense):
                continue
            if inner.storage is not DType.F32 or inner.as_dtype is not None:
                continue
            if stored.numel < self.min_numel:
                small += 1
                continue
            values = stored.decode()
            cast = values.to(DType(self.dtype).torch_dtype)
            if overflow := int((values.isfinite() & ~cast.isfinite()).sum()):
                least, most = (float(v) for v in torch.aminmax(values))
                got = f"{overflow} values beyond the range of {self.dtype}"
                shown = f"in [{least:.3g}, {most:.3g}]"
                notes.append(f"@{name}: {got} ({shown}); left {stored.describe()}")
                continue
            made = Dense(cast, DType.F32)
            under = replace(stored, values=made) if isinstance(stored, Sparse) else made
            after.constants[name] = Constant(name, under)
            errors[name] = relative_error(values, cast)
        if small:
            notes.append(f"{small} constants of less than {self.min_numel} elements; left dense")
        if not errors:
            notes.append("nothing to do: no constant was cast")
        return PassResult(after, bool(errors), tuple(notes), errors)
