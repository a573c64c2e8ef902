"""`edgec run` and `edgec translate`: execute a release, or what a target wrote, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgec.cli.console import key_values, output, progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from edgec.ir import Graph
    from edgec.runner import Runner
    from edgec.tokenizer import Tokenizer

SHOWN = 20  # elements of a tensor that are printed; of a greater one a summary is


def register(app: typer.Typer) -> None:
    app.command(short_help="Execute an artifact.")(run)
    app.command(short_help="Translate text with a release.")(translate)


# ------------------------------------------------------------------ translate
def translate(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of a release.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Without: one text a line of stdin."),
    ] = None,
    beams: Annotated[int, typer.Option(min=1, max=64, help="Hypotheses; 1 is greedy.")] = 1,
    variant: Annotated[str, typer.Option(help="This variant of several.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the host runtime.")] = 1,
) -> int:
    """Translate text with nothing but the files of a release; a line out for each line in."""
    from edgec.errors import ValidationError
    from edgec.metrics.predict import translator
    from edgec.release import Release

    given = texts or _lines()
    if empty := [str(i) for i, t in enumerate(texts or [], 1) if not t.strip()]:
        raise ValidationError("translate", f"empty text {', '.join(empty)}", "text to translate")
    if not given:
        need = "texts as arguments or lines of standard input"
        raise ValidationError("translate", "no text", need)
    opened = Release.load(release, variant, threads)
    opened.check_files([f for f in opened.manifest.files if f.ships])
    found = translator(opened.runner)
    with progress(quiet=len(given) < 4) as report:
        made = found.translate(
            given, beams, progress=lambda done: report("translate", done, len(given))
        )
    for text in made:
        print(text)
    _warn(given, made, found.tokenizer)
    return 0


def _lines() -> list[str]:
    """Lines of standard input. Raises FormatError for bytes that are not UTF-8."""
    from edgec.errors import FormatError

    if sys.stdin is None:  # closed by who started the process
        return []
    content = sys.stdin.buffer.read()
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"bytes that are no text in line {line}"
        raise FormatError("standard input", got, "UTF-8") from error
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def _warn(texts: Sequence[str], made: Sequence[str], tokenizer: Tokenizer) -> None:
    """Say which translations cannot be what was wanted."""
    for i, (text, translation) in enumerate(zip(texts, made, strict=True), 1):
        if not text.strip():
            continue
        if not tokenizer.knows(text):
            why = "the model's vocabulary has no piece of it"
        elif not translation:
            why = "its translation is empty"
        else:
            continue
        print(f"warning: text {i} ({text[:30]!r}): {why}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ run
def run(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT|RELEASE", help="A release, or what a target wrote.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="FILE.npy, FILE.safetensors:NAME, or numbers, as [[1, 2]]; text=... is tokenized.",
        ),
    ] = None,
    function: Annotated[str, typer.Option(help="Which one, of several.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write the outputs as .safetensors.")] = None,
    variant: Annotated[str, typer.Option(help="This variant of several.")] = "",
) -> int:
    """Execute one function on given inputs, and print or save its outputs."""
    from edgec.cli.artifact import open_runner
    from edgec.cli.inputs import read_inputs

    given = key_values(inputs or [], "--input")
    runner = open_runner(artifact, variant)
    graph = _choose(runner, function)
    tensors = read_inputs(given, runner, graph)
    graph.bind(tuple(t.shape) for t in tensors)
    results = dict(zip(graph.output_names, _execute(runner, graph, tensors), strict=True))
    if save is not None:
        _save(save, results)
    else:
        _print(results)
    return 0


def _choose(runner: Runner, function: str) -> Graph:
    from edgec.errors import ValidationError

    if not function and len(runner.graphs) == 1:
        return next(iter(runner.graphs.values()))
    if function not in runner.graphs:
        got = f"--function {function}" if function else f"{len(runner.graphs)} functions"
        raise ValidationError("run", got, f"--function with one of {', '.join(runner.graphs)}")
    return runner.graphs[function]


def _execute(
    runner: Runner, graph: Graph, tensors: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """Raises ValidationError that names the integer inputs: they are what tables are read at."""
    from edgec.errors import ValidationError
    from edgec.userfunction import describe

    try:
        return runner.run(graph.name, list(tensors))
    except (ValidationError, IndexError, RuntimeError) as error:
        reason = error.got if isinstance(error, ValidationError) else describe(error)
        pairs = zip(graph.inputs, tensors, strict=True)
        whole = [(v.name, t) for v, t in pairs if t.numel() and not t.is_floating_point()]
        ranges = [f"{name} of {int(t.min())} to {int(t.max())}" for name, t in whole]
        got = f"{', '.join(ranges)}: {reason}" if ranges else reason
        need = "indices that the model's tables have" if ranges else "inputs that it can compute"
        raise ValidationError(f"run {graph.name}", got, need) from error


def _save(path: Path, results: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    from edgec.errors import BuildError

    content = save({n: t.contiguous().clone() for n, t in results.items()})
    try:
        path.write_bytes(content)
    except OSError as error:
        got = f"{path}: {error.strerror or error}"
        raise BuildError("--save", got, "a file that can be written") from error


def _print(results: Mapping[str, torch.Tensor]) -> None:
    console = output()
    for name, tensor in results.items():
        head = f"{name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
        if tensor.numel() <= SHOWN:
            console.print(head, markup=False)
            console.print(tensor, markup=False)
        else:
            console.print(f"{head}  {_summary(tensor)}", markup=False)
    if any(t.numel() > SHOWN for t in results.values()):
        console.print("--save FILE.safetensors writes all elements", markup=False)


def _summary(tensor: torch.Tensor) -> str:
    from edgec.cli.format import short

    flat = tensor.double().reshape(-1)
    amounts = [("min", flat.min()), ("max", flat.max()), ("mean", flat.mean())]
    figures = ", ".join(f"{name} {short(float(amount))}" for name, amount in amounts)
    return f"{figures}; first {', '.join(short(float(x)) for x in flat[:4])}, ..."
