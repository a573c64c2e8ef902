"""Bytes, speed and memory of what ships."""

from __future__ import annotations

import contextlib
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import BuildError

RUNS = 9  # calls per build that a latency is the median of, unless time runs out
BROTLI_QUALITY = 5  # of 11, as servers compress on the way: 9 takes 13 times as long for 3 % less
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Latency:
    """CPU time of one call of a function on the build host, one thread.

    function          that is called
    dims              sizes it is called with
    ms                median over the runs
    uncompressed_ms   the same of the uncompressed build, measured in turns; null: not measured
    runs              calls of each build
    """

    function: str
    dims: Mapping[str, int]
    ms: float
    uncompressed_ms: float | None
    runs: int

    @property
    def ratio(self) -> float | None:
        """This build's time over the uncompressed build's."""
        return self.ms / self.uncompressed_ms if self.uncompressed_ms else None


def brotli_bytes(path: Path, quality: int = BROTLI_QUALITY) -> int | None:
    """Size of a file under brotli, as a server sends it; None where brotli is not installed."""
    try:
        import brotli
    except ImportError:
        return None
    key = sha256(path), quality
    if key not in _BROTLI_BYTES:
        _BROTLI_BYTES[key] = _compress(path, quality, brotli)
    return _BROTLI_BYTES[key]


# By hash of the content: variants and their uncompressed build have files in common.
_BROTLI_BYTES: dict[tuple[str, int], int] = {}


def _compress(path: Path, quality: int, brotli: Any) -> int:
    compressor = brotli.Compressor(quality=quality, lgwin=22)
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total += len(compressor.process(chunk))
    return int(total + len(compressor.finish()))


def sha256(path: Path) -> str:
    """Hash of a file."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cpu_ms(
    calls: Sequence[Callable[[], object]], runs: int = RUNS, limit_s: float = 2.0
) -> list[float]:
    """Median CPU milliseconds of each call, called in turns so that all meet the same machine.

    CPU time of the whole process, since other processes stretch wall time. Stops after `limit_s`
    CPU seconds, but not before three rounds; one more round at the start warms up.
    """
    for call in calls:
        call()
    taken: list[list[float]] = [[] for _ in calls]
    started = time.process_time()
    for i in range(runs):
        if i >= 3 and time.process_time() - started > limit_s:
            break
        for call, times in zip(calls, taken, strict=True):
            before = time.process_time()
            call()
            times.append((time.process_time() - before) * 1e3)
    return [statistics.median(times) for times in taken]


def host() -> dict[str, str | int]:
    """The machine that measured: processor, cores, system. No names of users, hosts or folders."""
    import os

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def resident_bytes() -> int | None:
    """Memory of this process now; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()


def peak_bytes() -> int | None:
    """Greatest memory of this process since its start; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Greatest growth of the process's memory in the block, sampled every 5 ms: `["bytes"]`."""
    found: dict[str, int] = {}
    base = resident_bytes()
    if base is None:
        yield found
        return
    found["bytes"] = 0
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            found["bytes"] = max(found["bytes"], (resident_bytes() or 0) - base)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
        found["bytes"] = max(found["bytes"], (resident_bytes() or 0) - base)


_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}


def parse_bytes(text: str | int, where: str = "size") -> int:
    """`6MB`, `512 KiB` or a number of bytes. Raises BuildError for anything else."""
    import re

    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([KMG]?I?B)?\s*", str(text).upper())
    if match is None:
        raise BuildError(where, repr(text)[:40], "a size such as 6MB, 512KiB or 6000000")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def show_bytes(count: int | float) -> str:
    """`4.93 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{int(count)} B"
