"""Records of the fidelity check, as they stand in a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.comparison import Comparison


@dataclass(frozen=True)
class Checked:
    """One function at one setting of its dimensions.

    function         that was called
    label            smallest, typical, largest, odd, fixed; example: the user's own inputs;
                     rollout: states that the function made itself
    dims             value of each named dimension
    reduced          `largest` is below the declared range
    note             why, where the graph itself cannot take more; "": where it would be slow
    own_error        the interpreter's float32 deviation from float64, relative, of the output
                     where it is greatest: the graph's conditioning; null: not finite
    outputs          each output against the interpreted graph
    """

    function: str
    label: str
    dims: Mapping[str, int]
    reduced: bool
    own_error: float | None
    outputs: tuple[Comparison, ...]
    note: str = ""

    @property
    def passed(self) -> bool:
        return all(o.passed for o in self.outputs)


@dataclass(frozen=True)
class Difference:
    """The first value, in the graph's order, that an artifact computes differently.

    function         that was called
    label            its setting
    value            name of the value
    node             the node in IR text
    source           the user's source line; "" when unknown
    max_ratio        its deviation relative to its scale; null: not finite
    tolerance        what it may be
    local            whether the node is wrong on the artifact's own operands too; null: not known
    """

    function: str
    label: str
    value: str
    node: str
    source: str
    max_ratio: float | None
    tolerance: float
    local: bool | None

    def __str__(self) -> str:
        ratio = "not finite" if self.max_ratio is None else f"{self.max_ratio:.2g}"
        line = f" [{self.source}]" if self.source else ""
        return (
            f"{self.function} ({self.label}): first differing value {self.node}{line}, "
            f"deviation {ratio}, allowed {self.tolerance:.2g}"
        )


@dataclass(frozen=True)
class Fidelity:
    """Does the artifact compute what the compressed graph means?

    passed      whether every output of every function is within its tolerance
    rule        how tolerances are derived
    checked     functions and sizes that were executed
    first       the first value that differs; null where nothing does, or the target cannot tell
    """

    passed: bool
    rule: str
    checked: tuple[Checked, ...]
    first: Difference | None = None

    @property
    def max_ratio(self) -> float | None:
        """The greatest deviation, None where one is not finite."""
        ratios = [o.max_ratio for c in self.checked for o in c.outputs]
        finite = [r for r in ratios if r is not None]
        return max(finite, default=0.0) if len(finite) == len(ratios) else None
