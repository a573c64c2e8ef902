"""What goes into NAME.weights: constants in the layouts that kernels read, each written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edgec.ir import Constant, DType, TensorType
from edgec.kernels.panel_layouts import stored
from edgec.kernels.panel_packing import pack
from edgec.kernels.panels import Panels
from edgec.patterns import Pattern
from edgec.runtime.container import Array, Entry
from edgec.target import StoredAs, Support, Verdict
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.tables import Table
from edgec.targets.native.views import Storage, View

#: The spec of a packed constant, and its arrays in the order of the spec's pointers.
Packed: TypeAlias = tuple[Panels, tuple[View, ...]]


@dataclass(frozen=True)
class _Form:
    """An array that is stored of a constant, in one layout."""

    layout: str
    nbytes: int
    verdict: Verdict


class Weights:
    """Entries of the weights file in the order of their first use.

    An entry is an array of a constant in one layout; the same layout again is the same entry.

    constants    of the program, by name
    multiplied   those that some function multiplies by, and which are packed for that
    entries      what is in the file so far
    """

    def __init__(self, constants: Mapping[str, Constant], multiplied: Collection[str] = ()) -> None:
        self.constants = constants
        self.multiplied = frozenset(multiplied)
        self.tables: dict[tuple[str, int], Table] = {}
        self.entries: list[Entry] = []
        self._dense: dict[str, View] = {}
        self._panels: dict[tuple[str, str], Packed] = {}
        self._forms: dict[str, list[_Form]] = {}

    def dense(self, constant: Constant) -> View:
        """The decoded values, row-major, in the constant's own element type."""
        name = constant.name
        if name not in self._dense:
            verdict = encoding_verdict(constant.encoding)
            if verdict.support is Support.DECODED:
                verdict = Verdict(Support.WIDENED, "decoded at build time")
            entry = _entry(name, stored(constant.encoding.decode()))
            storage = self._add(name, "row-major", entry, verdict)
            self._dense[name] = View.whole(storage, constant.type)
        return self._dense[name]

    def panels(self, constant: Constant, layout: str = "panels", widened: str = "") -> Packed:
        """A constant as the kernels of products read it.

        layout    "panels", or another name where the encoding given is another form of it
        widened   why that form is plainer than the program's own
        """
        name = constant.name
        if (name, layout) not in self._panels:
            spec, arrays = pack(constant.encoding)
            verdict = encoding_verdict(self.constants[name].encoding)
            if widened:
                verdict = Verdict(Support.WIDENED, widened)
            storages = {
                part: self._add(name, layout, _entry(f"{name}/{layout}/{part}", array), verdict)
                for part, array in arrays.items()
            }
            byte = TensorType(DType.U8, ())
            views = tuple(View.whole(storages[p.name], byte) for p in spec.pointers())
            self._panels[name, layout] = spec, views
        return self._panels[name, layout]

    def _add(self, constant: str, layout: str, entry: Entry, verdict: Verdict) -> Storage:
        self.entries.append(entry)
        self._forms.setdefault(constant, []).append(_Form(layout, entry.data.nbytes, verdict))
        return Storage("weights", entry.name, entry.data.nbytes)

    def table(self, pattern: Pattern, longest: int) -> Table:
        """Room for the block table of a pattern, the same for all layers of one length."""
        key = (str(pattern), longest)
        if key not in self.tables:
            self.tables[key] = Table.of(pattern, len(self.tables), longest)
        return self.tables[key]

    def stored(self, file: str) -> dict[str, StoredAs]:
        """How each constant stands in the file; one in several layouts counts all its bytes."""
        made = {}
        for constant, forms in self._forms.items():
            nbytes = sum(form.nbytes for form in forms)
            verdicts = list(dict.fromkeys(form.verdict for form in forms))
            support = max((v.support for v in verdicts), key=list(Support).index)
            reasons = [v.reason for v in verdicts if v.reason]
            layouts = dict.fromkeys(form.layout for form in forms)
            if len(layouts) > 1:
                reasons.append(f"stored in {len(layouts)} layouts: {', '.join(layouts)}")
            encoding = self.constants[constant].encoding.describe()
            made[constant] = StoredAs(file, nbytes, support, encoding, "; ".join(reasons))
        return made


def _entry(name: str, array: Array) -> Entry:
    """An array as `stored` and `pack` make them: 16-bit words are bits of bf16, 32-bit ones of
    masks."""
    if array.dtype == np.uint16:
        return Entry(name, array, "bf16")
    return Entry.of(name, array.view(np.int32) if array.dtype == np.uint32 else array)
