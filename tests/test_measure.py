"""Bytes, time and memory of what ships."""

from __future__ import annotations

import brotli
import numpy
import pytest

from edgec.errors import BuildError
from edgec.measure import (
    BROTLI_QUALITY,
    brotli_bytes,
    cpu_ms,
    host,
    parse_bytes,
    peak_memory,
    sha256,
    show_bytes,
)


def test_brotli_is_that_of_the_library(tmp_path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    size = brotli_bytes(tmp_path / "f")
    assert size is not None and size < len(content) / 100
    assert abs(size - len(brotli.compress(content, quality=BROTLI_QUALITY))) < 100
    (tmp_path / "g").write_bytes(content[:-1])
    assert sha256(tmp_path / "f") != sha256(tmp_path / "g")


def test_cpu_time_is_measured_in_turns() -> None:
    order: list[str] = []
    a = numpy.random.default_rng(0).normal(size=(200, 200))

    def quick() -> None:
        order.append("quick")

    def slow() -> None:
        order.append("slow")
        for _ in range(20):
            a @ a

    times = cpu_ms([quick, slow], runs=3)
    assert times[1] > times[0] >= 0
    assert order == ["quick", "slow"] * 4


def test_peak_memory_sees_what_is_allocated() -> None:
    with peak_memory() as found:
        block = numpy.ones(50_000_000, dtype=numpy.uint8)
        block += 1
    assert 40_000_000 < found["bytes"] < 200_000_000


def test_the_host_is_described_without_names_of_its_own() -> None:
    assert set(host()) == {"processor", "cores", "system", "python"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("6MB", 6_000_000), ("1.5 kB", 1500), ("2MiB", 2**21), (17, 17), ("17", 17), ("3 b", 3)],
)
def test_sizes_are_read(text, size) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "6 apples", "-3MB", "1e9", "6 M"])
def test_texts_that_are_no_sizes(text) -> None:
    with pytest.raises(BuildError, match="a size such as 6MB"):
        parse_bytes(text)


def test_sizes_are_shown() -> None:
    assert [show_bytes(n) for n in (12, 4567, 4_931_234, 2.5e9)] == [
        "12 B",
        "4.57 kB",
        "4.93 MB",
        "2.50 GB",
    ]
