"""Which tiles each kernel uses: a database that was measured, one file for an instruction set.

Looking a tile up takes no measurement, so that builds are reproducible; `python -m
edgec.kernels.tuning` measures on this machine and writes the file of an instruction set.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.tiles import BLOCKINGS, Blocking, Tile

FOLDER = Path(__file__).parent


def blocking_of(family: str, isa: InstructionSet) -> Blocking:
    """The tuned blocking of a family of kernels; that of `tiles.py` where none was measured."""
    entry = database(isa.name).get(family)
    return BLOCKINGS[isa.name] if entry is None else from_json(entry)


@functools.cache
def database(name: str) -> dict[str, Any]:
    """What is known of an instruction set: {family: blocking}; nothing without a file."""
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())["blockings"] if path.exists() else {}
    return found


def to_json(blocking: Blocking) -> dict[str, Any]:
    tiles = [[t.rows, t.cols, t.split] for t in blocking.tiles]
    return {"tiles": tiles, "depth": blocking.depth, "unroll": blocking.unroll}


def from_json(entry: dict[str, Any]) -> Blocking:
    tiles = tuple(Tile(*numbers) for numbers in entry["tiles"])
    return Blocking(tiles, entry["depth"], entry["unroll"])
