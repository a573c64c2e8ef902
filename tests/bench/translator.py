"""The translator under compression, and what fine-tuning against the original gives back.

    python -m tests.bench.translator [--only SUBSTRING ...] [--texts FILE] [--seconds 1200]
        [--checkpoints FOLDER] [--out translator.json]

Of each configuration: bytes of its ONNX files and greedy BLEU of these, executed, on the 936
held-out pairs of `models/translate`. `--texts` has one English text per line: what the original
makes of them is what `distill` learns from, up to `--seconds` for a configuration. Without it that
are the checkpoint's 256 calibration sentences, which also are the calibration of everything else.
More text comes from the training side of the message catalogs: the sources of `train.tsv`, which
`edgec.models.translate.train` writes. A text of the held-out pairs is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgec.capture.hf import load
from edgec.compiler.quality import load_data
from edgec.compiler.samples import calls_of, translation_sequences
from edgec.ir import Program
from edgec.metrics import Texts, get_metric
from edgec.metrics.predict import predict
from edgec.passes import CLEANUP, parse_pipeline
from edgec.runner import Runner, tokenizer_files
from edgec.sequences import Calls
from edgec.targets.onnx import Onnx

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "models" / "translate" / "checkpoint"
BATCH = 64  # texts of a sequence

DISTILL = "distill{loss=kl,precision=bf16,steps=100000,every=50,held_out=4}"
INT4 = "quantize-weights{bits=4,group=32}"
GPTQ3 = "gptq{bits=3,group=32,embeddings=4}"
TWO_FOUR = ("sparsegpt{bits=4,group=32,pattern=two_four,tables=leave}", INT4)
HEADS = "prune-heads{ratio=0.25}"

# "recovered" rows have the bytes of the row that they are named after.
ROWS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "nearest int4": (INT4,),
    "gptq int4": ("gptq{bits=4,group=32}",),
    "nearest int4, recovered": (INT4, DISTILL),
    "nearest int3, table int4": ("quantize-weights{bits=3,group=32,embeddings=4}",),
    "gptq int3, table int4": (GPTQ3,),
    "gptq int3, table int4, recovered": (GPTQ3, DISTILL),
    "2:4 and int4, tables int4": TWO_FOUR,
    "2:4 and int4, tables int4, recovered": (*TWO_FOUR, DISTILL),
    "25 % of heads removed": (HEADS,),
    "25 % of heads removed, recovered": (HEADS, DISTILL),
}


@dataclass(frozen=True)
class Row:
    """One configuration.

    bytes     of its ONNX files
    bleu      greedy, of the files
    lost      points fewer than the row "fp32"
    seconds   of its passes, wall
    notes     of the passes
    """

    name: str
    passes: tuple[str, ...]
    bytes: int
    bleu: float
    lost: float | None
    seconds: float
    notes: tuple[str, ...]


def translator() -> Program:
    """The checkpoint, cleaned up."""
    program, _ = parse_pipeline(CLEANUP).run(load(str(CHECKPOINT)))
    return program


def held_out(program: Program) -> Texts:
    data = load_data(CHECKPOINT / "heldout.tsv", program)
    assert isinstance(data, Texts)
    return data


def calibration(program: Program, texts: Sequence[str]) -> Calls:
    """Calls on the calibration sentences, and sequences of what is made of `texts`."""
    data = load_data(CHECKPOINT / "calibration.txt", program)
    assert isinstance(data, Texts)
    refuse_measured(texts, held_out(program).sources)
    calls = calls_of(program, data)
    sequences = translation_sequences(program, texts or data.sources, BATCH)
    return Calls(calls, sequences)


def refuse_measured(texts: Sequence[str], measured: Sequence[str]) -> None:
    """Stop where a text to learn from is one that is measured with."""
    known = {s.casefold() for s in measured}
    if both := [t for t in texts if t.casefold() in known]:
        raise SystemExit(f"{len(both)} texts are measured with: {both[0]!r}; leave them out")


def specs(name: str, seconds: float, checkpoints: Path | None) -> tuple[str, ...]:
    """The row's passes, with the limits of a run in those that train."""
    limits = f"seconds={seconds}"
    if checkpoints is not None:
        limits += f',checkpoint="{checkpoints / name.replace(" ", "-").replace(",", "")}"'
    return tuple(
        s.replace("}", f",{limits}}}") if s.startswith("distill") else s for s in ROWS[name]
    )


def emitted(program: Program, data: Texts) -> tuple[int, float]:
    """(bytes, BLEU) of the ONNX files."""
    metric = get_metric("bleu", "translate")
    with tempfile.TemporaryDirectory() as folder:
        target = Onnx()
        target.emit(target.legalize(program), Path(folder))
        nbytes = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        loaded = target.load(Path(folder))
        files = tokenizer_files(program.metadata)
        runner = Runner(program.graphs, loaded.run, program.metadata, files)
        found = predict(runner, data)
    return nbytes, metric.score(found, data, None).value


def measure(
    name: str, program: Program, given: Calls, passes: Sequence[str], whole: float | None
) -> Row:
    """Compress, emit and translate with one configuration; `whole` is the BLEU of "fp32"."""
    started = time.perf_counter()
    made, records = parse_pipeline(passes).run(program, calibration=given)
    seconds = time.perf_counter() - started
    nbytes, bleu = emitted(made, held_out(program))
    notes = tuple(note for record in records for note in record.notes)
    lost = None if whole is None else whole - bleu
    return Row(name, tuple(passes), nbytes, bleu, lost, seconds, notes)


def shown(row: Row) -> str:
    """A line of the table."""
    lost = "" if row.lost is None else f"{row.lost:.2f}"
    cells = [row.name, f"{row.bytes / 1e6:.2f} MB", f"{row.bleu:.2f}", lost, f"{row.seconds:.0f} s"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names of rows")
    parser.add_argument("--texts", type=Path, help="one English text per line")
    parser.add_argument("--seconds", type=float, default=1200, help="of a fine-tuning")
    parser.add_argument("--checkpoints", type=Path, help="folder to continue trainings from")
    parser.add_argument("--out", type=Path, default=Path("translator.json"))
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    program = translator()
    texts = options.texts.read_text("utf-8").splitlines() if options.texts else []
    given = calibration(program, texts)
    print("| | ONNX | BLEU | lost | passes |\n|---|---|---|---|---|")
    rows: list[Row] = []
    for name in ROWS:
        if name == "fp32" or any(part in name for part in options.only):
            passes = specs(name, options.seconds, options.checkpoints)
            rows.append(measure(name, program, given, passes, rows[0].bleu if rows else None))
            print(shown(rows[-1]), flush=True)
            options.out.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
