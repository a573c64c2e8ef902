"""Kernels compiled by several processes: `python -m edgec.kernels.worker` is one of them.

Kernels are pickled through a pipe, never into files. Objects go into the shared cache, so that
nothing comes back; the process that asked compiles what a worker failed at once more, and tells
the error.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence

from edgec.kernels.building import build_objects
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel

#: Kernels for which a process is worth the seconds that importing TVM takes.
LEAST = 8


def processes(kernels: int) -> int:
    """How many processes compile this many kernels, the asking one included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, kernels // LEAST))


def compile_ahead(
    kernels: Sequence[Kernel], isa: InstructionSet, suffix: str, prefix: str, workers: int
) -> None:
    """Have `workers` processes compile parts of `kernels`, and wait for them."""
    words = [sys.executable, "-m", "edgec.kernels.worker"]
    running = []
    for i in range(workers):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None
        with process.stdin as stream:
            pickle.dump((list(kernels[i::workers]), isa, suffix, prefix), stream)
        running.append(process)
    for process in running:
        process.wait()


def main() -> None:
    kernels, isa, suffix, prefix = pickle.load(sys.stdin.buffer)
    build_objects(kernels, isa, suffix, prefix, parallel=False)


if __name__ == "__main__":
    main()
