"""What passes that change how weights are stored share: which weights, and an account of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Constant, Dense, Encoding, Program, Sparse
from edgec.passes.weights import Selection, Weight, find_other_matrices, find_weights
from edgec.transform import Pass

Encode = Callable[[Encoding, Weight], Encoding | str]
"""The new encoding of a weight, or why it has none."""


@dataclass(frozen=True)
class WeightPass(Pass):
    """Options of all passes that treat weights one by one; each documents them.

    include, skip   patterns of names of constants
    min_numel       smaller weights stay as they are
    """

    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    min_numel: int = 256

    def __post_init__(self) -> None:
        if wrong := self.wrong_options():
            raise PassError(self.name, "; ".join(wrong))

    def wrong_options(self) -> list[str]:
        """What does not go, alone or together."""
        return [f"min_numel={self.min_numel}, need min_numel >= 0"] if self.min_numel < 0 else []

    def takes(self, stored: Encoding) -> bool:
        """Whether a weight that is stored so can be treated: dense values, or some under a mask."""
        return isinstance(stored, Dense) or is_sparse_dense(stored)

    @property
    def selected(self) -> Selection:
        return Selection(self.include, self.skip)

    def too_small(self, count: int) -> str:
        """Why a weight of so many elements is left; "" where it is not."""
        small = count < max(1, self.min_numel)
        return f"{count} weights; need {self.min_numel} (min_numel)" if small else ""


@dataclass
class Account:
    """The weights of a program that are treated one by one, and what there is to say of them.

    options   of the pass
    program   whose constants are replaced
    weights   the selected ones that were not treated yet
    errors    constant -> relative error, of those that were
    notes     what was left, and why
    """

    options: WeightPass
    program: Program
    weights: dict[str, Weight] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        selected = self.options.selected
        self.notes += selected.idle_notes(self.program.constants)
        for name, weight in find_weights(self.program).items():
            if name not in selected:
                continue
            if self.options.takes(self.program.constants[name].encoding):
                self.weights[name] = weight
            else:
                self.compressed.append(f"@{name}")

    def store(self, name: str, encode: Encode) -> None:
        """Give one of `weights` its new encoding, or note why it stays as it is."""
        weight = self.weights.pop(name)
        before = self.program.constants[name].encoding
        made = self.options.too_small(before.numel) or _not_finite(before) or encode(before, weight)
        if isinstance(made, str):
            # What was said of how it would be treated does not hold.
            self.notes[:] = [n for n in self.notes if not n.startswith(f"@{name}: ")]
            self.notes.append(f"@{name}: {made}; left {before.describe()}")
            return
        self.program.constants[name] = Constant(name, made)
        self.errors[name] = relative_error(before.decode(), made.decode())

    def close(self, done: str) -> None:
        """Note what was compressed before, and the matrices that are the weight of nothing.

        done   what is said to be done to no weight, where that is so: "quantized"; "" says nothing
        """
        if self.compressed:
            self.notes.append(f"compressed already, left as they are: {', '.join(self.compressed)}")
        others = find_other_matrices(self.program, self.options.min_numel)
        self.notes += [
            f"@{name}: used by {', '.join(ops)}, as the weight of none; left dense"
            for name, ops in others.items()
            if name in self.options.selected
        ]
        if done and not self.errors:
            self.notes.append(f"nothing to do: no weight was {done}")


def refuse_misfits(
    options: WeightPass, program: Program, misfit: Callable[[Encoding, Weight], str], do: str
) -> None:
    """Raise PassError that names every selected weight with a misfit; do: how to go on.

    Those that are too small to be treated have none.
    """
    weights = (w for n, w in find_weights(program).items() if n in options.selected)
    found = ((w, program.constants[w.name].encoding) for w in weights)
    wrong = [
        f"@{w.name}: {m}"
        for w, stored in found
        if not options.too_small(stored.numel) and (m := misfit(stored, w))
    ]
    if wrong:
        raise PassError(options.name, "; ".join(wrong), "", do)


def is_sparse_dense(stored: Encoding) -> bool:
    """A mask over plain values, which can be quantized under it."""
    return isinstance(stored, Sparse) and isinstance(stored.values, Dense)


def _not_finite(stored: Encoding) -> str:
    finite = bool(stored.decode().isfinite().all())
    return "" if finite else "NaN or infinite weights; need finite ones"


def relative_error(before: Tensor, after: Tensor) -> float:
    """||before - after|| / ||before||, 0 for no difference; in f64, a part of them at a time."""
    lost = power = 0.0
    parts = (t.reshape(-1).split(2**20) for t in (before, after))
    for x, y in zip(*parts, strict=True):
        x = x.double()
        lost += float((x - y.double()).square_().sum())
        power += float(x.square_().sum())
    return math.sqrt(lost / power) if power else math.sqrt(lost)
