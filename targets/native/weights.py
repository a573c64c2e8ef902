"""What goes into NAME.weights: constants in the layouts that kernels read, each written once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from edgec.ir import Constant, DType, TensorType, dims
from edgec.kernels.panel_packing import pack
from edgec.kernels.panels import Panels
from edgec.patterns import Pattern
from edgec.runtime.container import ALIGNMENT, Entry, round_up
from edgec.target import StoredAs, Support, Verdict
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.tables import Table
from edgec.targets.native.views import Storage, View

Array = npt.NDArray[np.generic]
Packer = Callable[[], Mapping[str, Array]]

_BITS = {DType.BF16: "bf16"}  # numpy has no type for it


class Weights:
    """Entries of the weights file in the order of their first use.

    An entry is a constant in one layout; asking for the same layout again gives the same storage.

    constants    of the program, by name
    multiplied   those that some function multiplies by, and which are packed for that
    """

    def __init__(self, constants: Mapping[str, Constant], multiplied: Collection[str] = ()) -> None:
        self.constants = constants
        self.multiplied = frozenset(multiplied)
        self.tables: dict[tuple[str, int], Table] = {}
        self._entries: dict[str, Entry] = {}
        self._storages: dict[str, Storage] = {}
        self._forms: dict[str, list[tuple[str, str, Verdict]]] = {}

    def dense(self, constant: Constant) -> View:
        """The decoded values, row-major, in the constant's own element type."""
        verdict = encoding_verdict(constant.encoding)
        if verdict.support is Support.DECODED:
            verdict = Verdict(Support.WIDENED, "decoded at build time")
        make = partial(_entry, constant)
        storage = self._add(constant, constant.name, "row-major", make, verdict)
        return View.whole(storage, constant.type)

    def panels(
        self, constant: Constant, layout: str = "panels", widened: str = ""
    ) -> tuple[Panels, list[View]]:
        """A constant as the kernels of products read it: the spec, and its arrays in order.

        layout    "panels", or another name where the encoding given is another form of it
        widened   why that form is plainer than the program's own
        """
        spec, arrays = pack(constant.encoding)
        storages = self.packed(constant, layout, lambda: arrays, widened)
        byte = TensorType(DType.U8, ())
        return spec, [View.whole(storages[p.name], byte) for p in spec.pointers()]

    def packed(
        self, constant: Constant, layout: str, pack: Packer, widened: str = ""
    ) -> dict[str, Storage]:
        """A constant in a kernel's layout: one storage for each array that `pack` gives.

        layout   names the layout; `pack` is called where it is not there yet
        """
        key = f"{constant.name}/{layout}"
        names = [n for n in self._storages if n.startswith(f"{key}/")]
        if not names:
            verdict = encoding_verdict(self.constants[constant.name].encoding)
            if widened:
                verdict = Verdict(Support.WIDENED, widened)
            for part, array in pack().items():
                name = f"{key}/{part}"
                self._add(constant, name, layout, partial(_packed_entry, array), verdict)
                names.append(name)
        return {n.removeprefix(f"{key}/"): self._storages[n] for n in names}

    def _add(
        self,
        constant: Constant,
        name: str,
        layout: str,
        make: Callable[[], Entry],
        verdict: Verdict,
    ) -> Storage:
        if name not in self._storages:
            made = make()
            self._entries[name] = Entry(name, made.data, made.dtype)
            self._storages[name] = Storage("weights", name, made.data.nbytes)
            self._forms.setdefault(constant.name, []).append((name, layout, verdict))
        return self._storages[name]

    def table(self, pattern: Pattern, longest: int) -> Table:
        """Room for the block table of a pattern, the same for all layers of one length."""
        key = (str(pattern), longest)
        if key not in self.tables:
            self.tables[key] = Table.of(pattern, len(self.tables), longest)
        return self.tables[key]

    # -------------------------------------------------------------- the file
    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    def offsets(self) -> dict[str, int]:
        """Byte offset of each entry from the start of the payload."""
        offset, found = 0, {}
        for name, entry in self._entries.items():
            found[name] = offset
            offset += round_up(entry.data.nbytes)
        return found

    def stored(self, file: str) -> dict[str, StoredAs]:
        """How each constant stands in the file; one in several layouts counts all its bytes."""
        made = {}
        for constant, forms in self._forms.items():
            nbytes = sum(self._entries[name].data.nbytes for name, _, _ in forms)
            verdicts = list(dict.fromkeys(verdict for _, _, verdict in forms))
            support = max((v.support for v in verdicts), key=list(Support).index)
            reasons = [v.reason for v in verdicts if v.reason]
            layouts = dict.fromkeys(layout for _, layout, _ in forms)
            if len(layouts) > 1:
                reasons.append(f"stored in {len(layouts)} layouts: {', '.join(layouts)}")
            encoding = self.constants[constant].encoding.describe()
            made[constant] = StoredAs(file, nbytes, support, encoding, "; ".join(reasons))
        return made


def _packed_entry(array: Array) -> Entry:
    """An array of a packed layout: 16-bit words are bits of bf16, 32-bit ones of masks."""
    if array.dtype == np.uint16:
        return Entry("x", array, "bf16")
    return Entry.of("x", array.view(np.int32) if array.dtype == np.uint32 else array)


def _entry(constant: Constant) -> Entry:
    """The decoded values."""
    tensor = constant.encoding.decode().detach().contiguous()
    dtype = DType.of(tensor.dtype)
    if dtype in _BITS:
        return Entry("x", tensor.view(torch.int16).numpy().view(np.uint16), _BITS[dtype])
    return Entry.of("x", tensor.numpy())


def element_count(view: View) -> int:
    """Elements of a view of static shape."""
    return int(dims.product(view.shape))


__all__ = ["ALIGNMENT", "Weights"]
