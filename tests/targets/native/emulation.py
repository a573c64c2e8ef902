"""Many calls of an aarch64 library in one process of qemu, which takes longer to start than most of
them take."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgec.runtime.golden import Array, GoldenCall, read_outputs, write_golden
from edgec.targets.native.emulated import TRIPLE, loading_program
from tests.runtime.tools import need


def replay(folder: Path, calls: Sequence[GoldenCall]) -> list[dict[int, Array]]:
    """Outputs of each call by index; those that stay in the instance are left out. Fails where a
    call does, or gives something else than what it expects."""
    qemu = need("qemu-aarch64", "qemu-user")
    (library,), (weights,) = folder.glob(f"lib/{TRIPLE}/*.so"), folder.glob("*.weights")
    with tempfile.TemporaryDirectory() as place:
        golden, made = Path(place) / "calls", Path(place) / "made"
        write_golden(golden, calls)
        done = subprocess.run(
            [qemu, str(loading_program(library)), str(weights), str(golden), "--out", str(made)],
            env={**os.environ, "EDGEC_LIBRARY": str(library)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = [{i: a.copy() for i, a in outputs.items()} for outputs in read_outputs(made)]
    assert len(found) == len(calls)
    return found
