"""Target onnx: `.onnx` files that stock onnxruntime executes.

One function is one file with its weights inside; several functions are one folder of files that
share `weights.bin`, where every constant stands once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgec.errors import UnsupportedError
from edgec.ir import Program
from edgec.target import Artifact, Executable, Target, legalized
from edgec.targets.onnx.legal import encoding_verdict, op_verdict

# Below: no 4-bit types, Gelu or GroupNormalization; above: not in onnxruntime.
OPSETS = range(21, 27)


@dataclass(frozen=True)
class Onnx(Target):
    """ONNX files that stock onnxruntime executes.

    opset           version of the standard operators, 21 to 26
    weights         2- and 4-bit weights of linear: "packed" stays packed in memory (MatMulNBits),
                    "dense" is unpacked when the file is opened, "auto" is packed where x has one
                    row for each element of a batch (a step of a decoder), else dense. The bytes
                    of the file are the same.
    accuracy_level  1: products of packed weights in f32, exact. 4: activations are rounded to int8
                    per block, which is faster and CHANGES VALUES; 2-, 4- and 8-bit weights are
                    packed everywhere then
    """

    name: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    opset: int = 21
    weights: Literal["auto", "packed", "dense"] = "auto"
    accuracy_level: Literal[1, 4] = 1

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            need = f"{OPSETS[0]} <= opset <= {OPSETS[-1]}"
            raise UnsupportedError("onnx", f"opset={self.opset}", need)
        if self.accuracy_level == 4 and self.weights == "dense":
            got = "accuracy_level=4 with weights=dense"
            raise UnsupportedError("onnx", got, "packed weights to be fast on", "drop one of them")

    def legalize(self, program: Program) -> Program:
        return legalized(program, self.name, op_verdict, encoding_verdict)

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        from edgec.targets.onnx.files import write

        return write(program, self, folder, recipe)

    @staticmethod
    def load(folder: Path, threads: int = 1) -> Executable:
        from edgec.targets.onnx.run import OnnxExecutable

        return OnnxExecutable(folder, threads)


__all__ = ["Onnx"]
