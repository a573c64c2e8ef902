"""The arithmetic peak of this core, from peak.c."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

from edgec.kernels import InstructionSet


class Peak:
    """Compiled loops of nothing but multiply-adds; needs AVX-512 VNNI and a C compiler."""

    def __init__(self) -> None:
        source = Path(__file__).with_suffix(".c")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "peak.so"
            flags = ["-O2", "-mavx512f", "-shared", "-fPIC"]
            subprocess.run(["cc", *flags, "-o", str(path), str(source)], check=True)
            self._library = ctypes.CDLL(str(path))
        for name in ("peak_fp32", "peak_vnni"):
            function = getattr(self._library, name)
            function.restype, function.argtypes = ctypes.c_double, [ctypes.c_long]

    @staticmethod
    def of(isa: InstructionSet) -> Peak | None:
        """None where the loops do not run."""
        return Peak() if isa.name == "x86_64_avx512" else None

    def fp32(self, iterations: int = 300_000) -> float:
        """GFLOP/s of fused multiply-adds."""
        return float(self._library.peak_fp32(iterations))

    def vnni(self, iterations: int = 300_000) -> float:
        """GOP/s of int8 dot products."""
        return float(self._library.peak_vnni(iterations))
