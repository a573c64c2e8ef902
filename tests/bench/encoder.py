"""Whole encoders, compiled by edgec against other runtimes: time of one text, in f32.

    python -m tests.bench.encoder [longdoc] [text] [--models ...] [--lengths ...] [--threads 1 2]
        [--only NAME ...] [--runs 9] [--work build/encoder] [--json OUT]

`text`      MiniLM (trained) and the encoders of two MarianMT sizes (random weights), one text of
            each length, against torch, onnxruntime, OpenVINO and CTranslate2
`longdoc`   models/longdoc at up to 4096 tokens, window and BigBird, against torch eager, compiled
            torch with flex_attention, and onnxruntime with blocks and with a dense mask

Candidates are processes that take turns; figures are medians. `x` is edgec's time over another's,
so that less than 1 is faster: of CPU time, and of wall time in brackets. Where several threads
compute, CPU time holds what threads spin while they wait, and wall time is only worth reading on a
machine that has nothing else to do. Every candidate's result is compared with edgec's. What is
built stays in the folder `--work`; remove it after a change of the compiler.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.measure import host
from tests.bench.turns import Candidate, Spent, medians

MODELS = {"text": ("minilm", "base", "tiny"), "longdoc": ("window", "bigbird")}
LENGTHS = {"text": (32, 128, 512), "longdoc": (1024, 4096)}
MODULES = {"text": "tests.bench.encoder_peers", "longdoc": "tests.bench.encoder_longdoc"}
PACKAGES = ("torch", "onnxruntime", "openvino", "ctranslate2", "transformers")
US = "edgec"
ALLOWED = 2e-3  # of the greatest value of a result; candidates round in different orders


@dataclass(frozen=True)
class Row:
    """One model, length and number of threads.

    spent    median milliseconds by candidate
    ratio    edgec's CPU and wall time over each other's
    error    greatest difference to edgec's result, as a part of the greatest value
    load     processes that wanted to run at the start and the end, averaged over a minute
    """

    part: str
    model: str
    length: int
    threads: int
    spent: Mapping[str, Spent]
    ratio: Mapping[str, Spent]
    error: Mapping[str, float]
    load: tuple[float, float]

    def __str__(self) -> str:
        ours = self.spent[US]
        head = f"{self.model} {self.length}, threads: {self.threads}"
        others = "  ".join(
            f"{name} x{r.cpu:.2f} (x{r.wall:.2f})"
            for name, r in sorted(self.ratio.items(), key=lambda item: -item[1].cpu)
        )
        return f"{head:28s}{others}  edgec {ours.cpu:.2f} ms ({ours.wall:.2f} ms)"


def rows(part: str, args: argparse.Namespace) -> Iterator[Row]:
    names = [n for n in args.models or MODELS[part] if n in MODELS[part]]
    for model in names:
        chosen = candidates(part, model, args.only)
        folders = {name: built(part, model, name, args.work) for name in chosen}
        for threads in args.threads:
            yield from measured(part, model, threads, folders, args)


def candidates(part: str, model: str, only: Sequence[str]) -> list[str]:
    """Names; edgec first."""
    module = importlib.import_module(MODULES[part])
    windows = getattr(module, "WINDOWS_ONLY", ())
    return [
        name
        for name in module.BUILD
        if (name == US or not only or any(o in name for o in only))
        and (name not in windows or model == "window")
    ]


def built(part: str, model: str, name: str, work: Path) -> Path:
    """The folder with what a candidate reads, built where it is not there yet."""
    module = importlib.import_module(MODULES[part])
    name = getattr(module, "SHARED_FILES", {}).get(name, name)
    folder = work / part / model / name.replace(", ", "-")
    if not folder.exists():
        draft = folder.with_name(folder.name + ".draft")
        draft.mkdir(parents=True)
        module.BUILD[name](model, draft)
        draft.rename(folder)
    return folder


def measured(
    part: str, model: str, threads: int, folders: Mapping[str, Path], args: argparse.Namespace
) -> Iterator[Row]:
    """All lengths, by the same processes."""
    opened = importlib.import_module(MODULES[part]).OPEN
    running = [
        Candidate(name, opened[name], (model, folder, threads), threads)
        for name, folder in folders.items()
    ]
    try:
        for length in args.lengths or LENGTHS[part]:
            given = text(length)
            results = {c.name: c.prepare(given) for c in running}
            before = os.getloadavg()[0]
            spent = medians(running, args.runs)
            error = {n: deviation(r, results[US]) for n, r in results.items() if n != US}
            ratio = {n: over(spent[US], s) for n, s in spent.items() if n != US}
            load = before, os.getloadavg()[0]
            yield Row(part, model, length, threads, spent, ratio, error, load)
    finally:
        for candidate in running:
            candidate.close()


def text(length: int) -> dict[str, np.ndarray]:
    """Random tokens of one text, nothing hidden."""
    ids = np.random.default_rng(length).integers(5, 8000, (1, length))
    return {"ids": ids, "mask": np.ones_like(ids)}


def over(ours: Spent, other: Spent) -> Spent:
    return Spent(ours.cpu / other.cpu, ours.wall / other.wall)


def deviation(got: np.ndarray, want: np.ndarray) -> float:
    """Raises SystemExit for a candidate that computes something else."""
    same = got.shape == want.shape
    found = float(np.abs(got - want).max() / np.abs(want).max()) if same else float("inf")
    if not found < ALLOWED:
        raise SystemExit(f"results of {got.shape}, {want.shape} differ by {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=(*MODELS, []), help="both, if none is named")
    parser.add_argument("--models", nargs="+", default=[])
    parser.add_argument("--lengths", nargs="+", type=int, default=[])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="others than edgec, by part of name")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--work", type=Path, default=Path("build/encoder"))
    parser.add_argument("--json", type=Path, dest="out")
    args = parser.parse_args()
    found = []
    for part in args.parts or MODELS:
        for row in rows(part, args):
            print(row, flush=True)
            found.append(row)
    if args.out:
        args.out.write_text(json.dumps(record(found), indent=1) + "\n")


def record(found: Sequence[Row]) -> dict[str, Any]:
    versions = {p: importlib.metadata.version(p) for p in PACKAGES}
    return {"machine": host(), "versions": versions, "rows": [asdict(row) for row in found]}


if __name__ == "__main__":
    main()
