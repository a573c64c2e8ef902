"""The JavaScript module of a model, and execution of its WebAssembly by Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.ir import dims as dimensions
from edgec.runtime.arguments import Array
from edgec.runtime.container import STORAGE
from edgec.runtime.sources import LOADER_JS
from edgec.target import Signature

TRIPLE = "wasm32-unknown-unknown"
LOADING = Path(__file__).with_name("loading.mjs")
TOKENIZING = Path(__file__).with_name("tokenizing.mjs")
CALLS = Path(__file__).with_name("calls.mjs")


def javascript(name: str, wasm: str, tokens: bool) -> str:
    """NAME.mjs: the runtime's loader, and what finds this model's files.

    wasm     path of the module, relative to NAME.mjs
    tokens   whether there is a NAME.tokens
    """
    text = LOADING.read_text() + (TOKENIZING.read_text() if tokens else "")
    for word, value in (
        ("MODEL_NAME", name),
        ("WASM_PATH", wasm),
        ("WEIGHTS_PATH", f"{name}.weights"),
        ("TOKENS_PATH", f"{name}.tokens"),
    ):
        text = text.replace(word, value)
    return LOADER_JS.read_text() + text


class Node:
    """A process of Node that opens the model with its own loader and answers calls.

    One thread, whatever is asked for: the module has no threads. Raises UnsupportedError without
    Node, FormatError for files that the loader refuses.
    """

    def __init__(self, library: Path, weights: Path, threads: int = 1) -> None:
        if missing := self.missing():
            raise UnsupportedError("native", f"{TRIPLE} on this machine", missing, "install it")
        loader = weights.with_suffix(".mjs")
        if not loader.is_file():
            raise FormatError(str(weights.parent), f"no {loader.name}", "the model's loader")
        words = ["node", str(CALLS), str(loader)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if said := self._answer().get("error"):
            self.close()
            raise FormatError(str(library), said)

    @staticmethod
    def missing() -> str:
        """What is not here and needed; "": nothing."""
        return "" if shutil.which("node") else "node on PATH (Node 18 or newer)"

    def run(
        self, signature: Signature, dims: Mapping[str, int], inputs: Sequence[Array]
    ) -> list[Array]:
        """Call a function; all outputs, states too. Raises ValidationError with the loader's or the
        C library's text."""
        raw = [np.ascontiguousarray(a).tobytes() for a in inputs]
        call = {"name": signature.name, "dims": dict(dims), "inputs": [len(r) for r in raw]}
        stream = self._process.stdin
        assert stream is not None
        stream.write(json.dumps(call).encode() + b"\n" + b"".join(raw))
        stream.flush()
        answer = self._answer()
        if "error" in answer:
            raise ValidationError(signature.name, answer["error"])
        made = []
        for value, size in zip(signature.outputs, answer["outputs"], strict=True):
            shape = [dimensions.evaluate(d, dims) for d in value.type.shape]
            data = np.frombuffer(bytearray(self._read(size)), STORAGE[value.type.dtype.value])
            made.append(data.reshape(shape))
        return made

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ValidationError("node", f"exit status {self._process.wait()}", "an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def close(self) -> None:
        """End the process; one that is lost ends with its standard input."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_process") and self._process.poll() is None:
            self.close()
