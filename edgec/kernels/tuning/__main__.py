"""Measures tiles on this machine and writes the databases of its instruction sets.

    python -m edgec.kernels.tuning [--set NAME ...]

A machine under other load gives other answers: run it alone, and look at what it prints.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence

from edgec.kernels.calling import host_sets
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.tiles import BLOCKINGS, CANDIDATES
from edgec.kernels.tuning import FOLDER, to_json
from edgec.kernels.tuning.measuring import CASES, fastest


def main(arguments: Sequence[str] | None = None) -> None:
    sets = {isa.name: isa for isa in host_sets()}
    parser = argparse.ArgumentParser(
        prog="python -m edgec.kernels.tuning", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--set", nargs="+", choices=sets, default=list(sets), help="of instructions; all of these"
    )
    for name in parser.parse_args(arguments).set:
        _tune(sets[name])


def _tune(isa: InstructionSet) -> None:
    candidates = list(dict.fromkeys((BLOCKINGS[isa.name], *CANDIDATES[isa.name])))
    chosen = {}
    for family, cases in CASES.items():
        best, means = fastest(cases, candidates, isa)
        chosen[family] = to_json(best)
        print(f"{isa.name} {family}")
        for candidate, mean in sorted(means.items(), key=lambda pair: pair[1]):
            tiles = " ".join(f"{t.rows}x{t.cols}/{t.split}" for t in candidate.tiles)
            print(f"  {mean:.3f}  {tiles}, depth {candidate.depth}, unroll {candidate.unroll}")
    written = {"machine": f"{platform.machine()} {_model()}".strip(), "blockings": chosen}
    path = FOLDER / f"{isa.name}.json"
    path.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


def _model() -> str:
    """Name of the processor, where the system says it."""
    try:
        with open("/proc/cpuinfo") as lines:
            found = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
            return next(found, "")
    except OSError:
        return platform.processor()


if __name__ == "__main__":
    main()
