"""What rounding weights and activations costs the two classifiers of digits, executed as ONNX.

    python -m tests.bench.digits [--only SUBSTRING ...] [--out digits.json]

`top-1` is over 2391 images, three copies of each of 797 that were held out: one image less is 0.04
points, and two nets that agree on all but n images differ by at most sqrt(n) of these in standard
error. `same` is the part of them for which the answer is that of fp32, whatever the label. `off`
is the mean distance of the logits from those of fp32, as a part of their size. Milliseconds are
CPU time of one thread for 16 images, the least of several runs in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

import edgec
from edgec.context import Calibration
from edgec.interpreter import Interpreter
from edgec.ir import Program
from edgec.models.digits.data import CHECKPOINT, held_out
from edgec.models.digits.nets import NETS, trained
from edgec.passes import CLEANUP, parse_pipeline
from edgec.targets.onnx import Onnx

EIGHT, MSE = "quantize-weights{bits=8}", "quantize-activations{observer=mse}"
BATCH, TURNS = 16, 15

ROWS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "int8 weights": (EIGHT,),
    "int8, dynamic": ("quantize-weights{bits=8,activations=dynamic}",),
    "int8, dynamic per image or token": ("quantize-weights{bits=8,activations=dynamic_token}",),
    **{
        f"int8, static {observer}": (EIGHT, f"quantize-activations{{observer={observer}}}")
        for observer in ("minmax", "percentile", "entropy", "mse")
    },
    "gptq int8, static mse": ("gptq{bits=8}", MSE),
    "int8, static mse, biases": (EIGHT, MSE, "correct-biases"),
    "equalized, int8, static mse": ("equalize-layers", EIGHT, MSE),
    "equalized, int8, static mse, biases": ("equalize-layers", EIGHT, MSE, "correct-biases"),
    "smooth, int8, static mse": ("smooth-activations", EIGHT, MSE),
    "smooth, int8, static mse, biases": ("smooth-activations", EIGHT, MSE, "correct-biases"),
    "int4 weights": ("quantize-weights{bits=4}",),
    "int4 weights, biases": ("quantize-weights{bits=4}", "correct-biases"),
    "equalized, int4 weights, biases": (
        "equalize-layers",
        "quantize-weights{bits=4}",
        "correct-biases",
    ),
}


@dataclass(frozen=True)
class Row:
    """One net under one pipeline.

    bytes          of the ONNX file
    milliseconds   of CPU time for 16 images
    top1, same     percent of the held-out images, executed
    off            mean |logit - logit of fp32| / mean |logit of fp32|
    interpreted    top-1 of the interpreted graph
    """

    net: str
    name: str
    passes: tuple[str, ...]
    bytes: int
    milliseconds: float
    top1: float
    same: float
    off: float
    interpreted: float


def calibration() -> Calibration:
    from safetensors.torch import load_file

    images = load_file(CHECKPOINT / "calibration.safetensors")["images"]
    return {"main": [[part] for part in images.split(BATCH)]}


def captured(net: str) -> Program:
    images, _ = held_out()
    dims = {"images": {0: torch.export.Dim("batch")}}
    program = edgec.capture(trained(net), (images[:4],), dims)
    return parse_pipeline(CLEANUP).run(program)[0]


def measure(net: str, names: Sequence[str]) -> list[Row]:
    """Compress, emit and execute; the files take turns where time is measured."""
    program, (images, labels) = captured(net), held_out()
    parts, files, made, sizes = images.split(BATCH), {}, {}, {}
    for name in ("fp32", *(n for n in names if n != "fp32")):
        made[name], _ = parse_pipeline(ROWS[name]).run(program, calibration=calibration())
        with tempfile.TemporaryDirectory() as folder:
            Onnx().emit(Onnx().legalize(made[name]), Path(folder))
            files[name] = Onnx.load(Path(folder))
            files[name].run("main", [parts[0]])  # opens the file
            sizes[name] = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    times = dict.fromkeys(files, float("inf"))
    for _ in range(TURNS):
        for name, file in files.items():
            started = time.process_time()
            for part in parts[:20]:
                file.run("main", [part])
            times[name] = min(times[name], (time.process_time() - started) / 20 * 1e3)
    rows, wanted = [], torch.cat([files["fp32"].run("main", [p])[0] for p in parts])
    for name in names:
        logits = torch.cat([files[name].run("main", [p])[0] for p in parts])
        graph = torch.cat([Interpreter(made[name]).run([p])[0] for p in parts])
        rows.append(
            Row(
                net,
                name,
                ROWS[name],
                sizes[name],
                times[name],
                percent(logits.argmax(1) == labels),
                percent(logits.argmax(1) == wanted.argmax(1)),
                float((logits - wanted).abs().mean() / wanted.abs().mean()),
                percent(graph.argmax(1) == labels),
            )
        )
    return rows


def percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names of rows")
    parser.add_argument("--out", type=Path, default=Path("digits.json"))
    options = parser.parse_args()
    names = [name for name in ROWS if any(part in name for part in options.only)]
    rows: list[Row] = []
    for net in NETS:
        print(f"\n| {net} | bytes | ms | top-1 | same | off | interpreted |")
        print("|---" * 7 + "|")
        found = measure(net, names)
        for r in found:
            cells = [f"{r.milliseconds:.2f}", f"{r.top1:.2f}", f"{r.same:.2f}", f"{r.off:.4f}"]
            print(f"| {r.name} | {r.bytes:,} | {' | '.join(cells)} | {r.interpreted:.2f} |")
        rows += found
        options.out.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
