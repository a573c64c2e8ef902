"""A bounded run of libFuzzer under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.runtime.tiny_model import compile_c
from tests.runtime.tools import need

SECONDS = 60
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
FLAGS = ("-O1", "-g", "-pthread", SANITIZERS, "-fno-sanitize-recover=all")
LIMIT_MB = 1024


def fuzz(sources: Sequence[Path], corpus: Path, folder: Path, *options: str) -> None:
    """Compile `sources` to a fuzzer in `folder` and run it from `corpus`, which stays as it is.

    Raises AssertionError with what libFuzzer says of an input that crashes, hangs or allocates more
    than `LIMIT_MB`. That limit is the allocator's: libFuzzer's own compares the greatest residence
    since ever, which a process inherits from the one that started it.
    """
    need("clang", "clang")
    program = compile_c(["clang"], folder / "fuzz", sources, *FLAGS)
    found = folder / "new"
    found.mkdir()
    limits = ("-timeout=10", "-rss_limit_mb=0", f"-malloc_limit_mb={LIMIT_MB}")
    words = [str(program), f"-max_total_time={SECONDS}", *limits, *options, str(found), str(corpus)]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "ASAN_OPTIONS": f"hard_rss_limit_mb={LIMIT_MB}"},
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
