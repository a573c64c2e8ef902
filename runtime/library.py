"""Opening a shared library that may be damaged, or have replaced another one of its name."""

from __future__ import annotations

import ctypes
import struct
import tempfile
from pathlib import Path

from edgec.errors import FormatError

_SECTIONS = struct.Struct("<40xQ10xHH")  # e_shoff, e_shentsize, e_shnum of a 64-bit ELF header


def open_library(path: Path) -> ctypes.CDLL:
    """Load a library. Raises FormatError for what cannot be loaded.

    The dynamic linker takes a path that it has seen for the file that it saw there, so that a model
    built anew in its place would not be noticed: each call gives it a path of its own. Files are
    still told apart by device and inode, and one that is open already is shared.
    """
    _check_length(path)
    with tempfile.TemporaryDirectory(prefix="edgec-") as place:
        link = Path(place) / path.name
        link.symlink_to(path.absolute())
        try:
            return ctypes.CDLL(str(link))
        except OSError as error:
            said = str(error).replace(str(link), str(path))
            raise FormatError(str(path), said, "a shared library for this machine") from error


def _check_length(path: Path) -> None:
    """Raise FormatError for an ELF file that was cut: touching what is missing ends the process."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(64)
    except OSError as error:
        raise FormatError(str(path), error.strerror or str(error), "a shared library") from error
    if header[:4] != b"\x7fELF":
        return
    if len(header) == 64:
        start, entry, count = _SECTIONS.unpack_from(header)
        if start + entry * count <= size:
            return
    raise FormatError(str(path), f"a library of {size} bytes, which was cut", "the whole file")
