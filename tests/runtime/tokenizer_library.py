"""The C tokenizer called from Python."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

from edgec.runtime.sources import library_sources
from tests.runtime.tiny_model import compile_c

ERROR_BYTES = 256


def build_library(folder: Path) -> ctypes.CDLL:
    flags = ("-O1", "-g", "-fPIC", "-shared", "-pthread")
    out = compile_c(["gcc"], folder / "libtokenizer.so", library_sources(), *flags)
    library = ctypes.CDLL(str(out))
    library.edgec_tokenizer_create.argtypes = [c_char_p, c_void_p, c_void_p, c_char_p]
    library.edgec_tokenizer_destroy.argtypes = [c_void_p]
    library.edgec_tokenizer_error.argtypes = [c_void_p]
    library.edgec_tokenizer_error.restype = c_char_p
    library.edgec_tokenize.argtypes = [c_void_p, c_char_p, c_size_t, c_void_p, c_int32, c_void_p]
    library.edgec_detokenize.argtypes = [c_void_p, c_void_p, c_int32, c_char_p, c_size_t, c_void_p]
    library.edgec_choose_token.argtypes = [c_void_p, POINTER(c_float), c_int64, c_int64]
    library.edgec_choose_token.restype = c_int64
    library.edgec_status_name.restype = c_char_p
    return library


class Failure(Exception):
    """A status and its text."""


class Options(ctypes.Structure):
    """edgec_tokenizer_options."""

    _fields_ = (
        ("verify", c_int32),
        ("max_bytes", c_int32),
        ("file", c_void_p),
        ("file_size", c_size_t),
    )


class Tokenizer:
    """One tokenizer; every failure is raised."""

    def __init__(self, library: ctypes.CDLL, path: Path, max_bytes: int = 0) -> None:
        self._library, self._self = library, c_void_p()
        error = ctypes.create_string_buffer(ERROR_BYTES)
        options = Options(1, max_bytes, None, 0)
        status = library.edgec_tokenizer_create(
            str(path).encode(), byref(options), byref(self._self), error
        )
        if status:
            raise self._failure(status, error.value)

    def encode(self, text: str | bytes, capacity: int = 4096) -> list[int]:
        raw = text.encode() if isinstance(text, str) else text
        ids, count = (c_int64 * capacity)(), c_int32()
        self._check(
            self._library.edgec_tokenize(self._self, raw, len(raw), ids, capacity, byref(count))
        )
        return list(ids[: count.value])

    def decode(self, ids: list[int], capacity: int = 65536) -> str:
        text = ctypes.create_string_buffer(capacity)
        given = (c_int64 * len(ids))(*ids)
        size = c_size_t()
        self._check(
            self._library.edgec_detokenize(self._self, given, len(ids), text, capacity, byref(size))
        )
        return text.raw[: size.value].decode()

    def choose(self, logits: list[float], position: int) -> int:
        values = (c_float * len(logits))(*logits)
        found: int = self._library.edgec_choose_token(self._self, values, len(logits), position)
        return found

    def close(self) -> None:
        self._library.edgec_tokenizer_destroy(self._self)

    def _check(self, status: int) -> None:
        if status:
            raise self._failure(status, self._library.edgec_tokenizer_error(self._self))

    def _failure(self, status: int, text: bytes) -> Failure:
        name = self._library.edgec_status_name(status).decode()
        return Failure(f"{name} {text.decode()}")
