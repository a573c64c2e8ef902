"""What all patterns share, and unions of them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from edgec.errors import TypeCheckError

Positions: TypeAlias = npt.NDArray[np.int64]
Visible: TypeAlias = npt.NDArray[np.bool_]

# No field of a part is greater, so that positions and their products stay exact in 64 bits and a
# seed fits into the 32-bit integers of a kernel's table.
MAX_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Pattern:
    """The keys that each query of a self-attention over S tokens sees.

    Query i and key j are positions 0..S-1 of the same tokens. `a + b` sees what a or b see,
    `a & Causal()` what a sees up to the query itself. Equal patterns have equal texts, and
    `parse(str(pattern)) == pattern`.
    """

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        """Whether query i sees key j, for arrays of positions that broadcast.

        length   S; positions outside of [0, S) give any answer
        head     0..H-1
        """
        raise NotImplementedError

    @property
    def head_period(self) -> int:
        """P such that heads h and h + P see the same; 1 where all heads do."""
        return math.lcm(*(part.head_period for part in self.parts))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the union, one for a single part."""
        raise NotImplementedError

    @property
    def past_only(self) -> bool:
        """Whether the union is cut to j <= i."""
        return False

    def check(self, longest: int) -> None:
        """Raise TypeCheckError where a part has no room in `longest` tokens.

        Shorter inputs of the same model are always served: parts end where the tokens end.
        """
        for part in self.parts:
            part.check(longest)

    def parameters(self) -> tuple[tuple[int, int, int, int], ...]:
        """(kind, a, b, c) of each part: `Part.kind`, then its fields in order, 0 for none."""
        rows = []
        for part in self.parts:
            a, b, c = (*map(int, part.fields()), 0, 0, 0)[:3]
            rows.append((part.kind, a, b, c))
        return tuple(rows)

    def __add__(self, other: Pattern) -> Pattern:
        if not isinstance(other, Pattern):
            return NotImplemented
        for side in (self, other):
            if side.past_only:
                got = f"{self} + {other}"
                raise TypeCheckError("pattern", got, "causal() once, on the whole: (a + b) & ...")
        return Union((*self.parts, *other.parts))

    def __and__(self, other: Pattern) -> Pattern:
        if not isinstance(other, Pattern):
            return NotImplemented
        if other.name != "causal":
            raise TypeCheckError("pattern", f"{self} & {other}", "causal() on the right of &")
        return Union(self.parts, causal=True)

    @property
    def name(self) -> str:
        """The part's name in text, "" for a union."""
        return ""


@dataclass(frozen=True)
class Part(Pattern):
    """One kind of visibility. Fields are integers >= `least`, and booleans."""

    kind: ClassVar[int] = -1
    text_name: ClassVar[str] = ""
    least: ClassVar[dict[str, int]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), isinstance(field.default, bool)
            where = self.text_name
            if type(value) is not (bool if flag else int):
                need = "True or False" if flag else "an integer"
                raise TypeCheckError(where, f"{field.name}={value!r}", need)
            least = self.least.get(field.name, 1)
            if not flag and not least <= value <= MAX_FIELD:
                raise TypeCheckError(where, f"{field.name}={value}", f"{least}..{MAX_FIELD}")

    @property
    def name(self) -> str:
        return self.text_name

    @property
    def head_period(self) -> int:
        return 1

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self,)

    def check(self, longest: int) -> None:
        return None

    def misfit(self, got: str, longest: int) -> TypeCheckError:
        """The error of `check`."""
        need = f"a pattern that fits {longest} tokens"
        return TypeCheckError(
            self.name, got, need, "make the pattern smaller or leave the part out"
        )

    def fields(self) -> tuple[int, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))

    def __str__(self) -> str:
        """`name(fields)`: optional fields only where they, or one behind them, differ."""
        shown: list[str] = []
        for field, value in reversed(
            list(zip(dataclasses.fields(self), self.fields(), strict=True))
        ):
            if shown or value != field.default:
                shown.insert(0, f"{field.name}={value}" if value is True else f"{value}")
        return f"{self.name}({', '.join(shown)})"


def _unique(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(dict.fromkeys(parts))


@dataclass(frozen=True)
class Union(Pattern):
    """What any of the parts sees; with `causal`, only keys up to the query itself.

    Parts are kept once each, in the order given.
    """

    members: tuple[Part, ...]
    causal: bool = False

    def __post_init__(self) -> None:
        flat: tuple[Any, ...] = tuple(p for m in self.members for p in m.parts)
        if not flat or any(m.past_only for m in self.members):
            raise TypeCheckError("pattern", f"{self.members}", "at least one part, and causal last")
        object.__setattr__(self, "members", _unique(flat))

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        seen = self.members[0].visible(i, j, length, head)
        for part in self.members[1:]:
            seen = seen | part.visible(i, j, length, head)
        return seen & (j <= i) if self.causal else seen

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.members

    @property
    def past_only(self) -> bool:
        return self.causal

    def __str__(self) -> str:
        text = " + ".join(map(str, self.members))
        if not self.causal:
            return text
        return f"({text}) & causal()" if len(self.members) > 1 else f"{text} & causal()"
