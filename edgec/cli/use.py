"""`edgec run` and `edgec translate`: execute a release, or what a target wrote, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgec.cli.console import key_values, output, progress

if TYPE_CHECKING:
    import torch

    from edgec.runner import Runner
    from edgec.target import Executable


def register(app: typer.Typer) -> None:
    app.command(short_help="Execute an artifact.")(run)
    app.command(short_help="Translate text with a release.")(translate)


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
    """Translate text with nothing but the files of a release."""
    from edgec.errors import ValidationError
    from edgec.metrics.predict import translator
    from edgec.release import Release

    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise ValidationError(
            "translate", "no text", "texts as arguments or lines of standard input"
        )
    opened = Release.load(release, variant, threads)
    opened.check_files([f for f in opened.manifest.files if f.ships])
    with progress(quiet=len(given) < 4) as report:
        found = translator(opened.runner).translate(
            given, beams, progress=lambda done: report("translate", done, len(given))
        )
    for text in found:
        print(text)
    return 0


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
    runner = _open(artifact, variant)
    graph = _choose(runner, function)
    given = key_values(inputs or [], "--input")
    if "text" in given and "text" not in {v.name for v in graph.inputs}:
        given |= _tokens(runner, given.pop("text"), graph)
    types = {v.name: v.type for v in graph.inputs}
    _check_names(given, types, graph)
    tensors = [_tensor(name, given[name], t) for name, t in types.items()]
    graph.bind(tuple(t.shape) for t in tensors)
    results = dict(zip(graph.output_names, runner.run(graph.name, tensors), strict=True))
    if save is not None:
        from safetensors.torch import save as to_bytes

        save.write_bytes(to_bytes({n: t.contiguous() for n, t in results.items()}))
    else:
        console = output()
        for name, tensor in results.items():
            console.print(
                f"{name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}",
                markup=False,
            )
            console.print(tensor, markup=False)
    return 0


def _open(path: Path, variant: str) -> Runner:
    from edgec.release import Release
    from edgec.release.manifest import NAME
    from edgec.release.signature import signature_graph
    from edgec.release.summary import NAME as SUMMARY
    from edgec.runner import Runner

    if (path / NAME).is_file() or (path / SUMMARY).is_file():
        return Release.load(path, variant).runner
    _, executable, _ = open_artifact(path)
    graphs = {n: signature_graph(s) for n, s in executable.functions.items()}
    return Runner(graphs, executable.run)


def open_artifact(path: Path) -> tuple[str, Executable, Path]:
    """(target, executable, folder) of files that some target wrote.

    Raises FormatError where no target can read them, with what each of them says.
    """
    from edgec.errors import EdgecError, FormatError
    from edgec.targets import TARGETS, target_class

    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise FormatError(str(path), "nothing there", "a release folder or an artifact")
    refused = []
    for name in TARGETS:
        try:
            return name, target_class(name).load(folder), folder
        except EdgecError as error:
            refused.append(f"{name}: {error}")
    got = f"{path.name}, which no target can read\n  " + "\n  ".join(refused)
    raise FormatError("artifact", got)


def _choose(runner: Runner, function: str) -> Any:
    from edgec.errors import ValidationError

    if not function and len(runner.graphs) == 1:
        return next(iter(runner.graphs.values()))
    if function not in runner.graphs:
        got = f"--function {function}" if function else f"{len(runner.graphs)} functions"
        raise ValidationError("run", got, f"--function with one of {', '.join(runner.graphs)}")
    return runner.graphs[function]


def _check_names(given: dict[str, Any], types: dict[str, Any], graph: Any) -> None:
    from edgec.errors import ValidationError

    problems = [f"missing --input {n} ({t})" for n, t in types.items() if n not in given]
    problems += [f"unknown --input {n}" for n in given if n not in types]
    if problems:
        raise ValidationError("run", "; ".join(problems), "", f"signature: {graph.signature()}")


def _tokens(runner: Runner, text: str, graph: Any) -> dict[str, Any]:
    from edgec.errors import ValidationError
    from edgec.tokenizer import load_tokenizer

    names = {v.name for v in graph.inputs}
    if not runner.tokenizer or "input_ids" not in names:
        raise ValidationError("run", "--input text=...", "a tokenizer and an input input_ids")
    ids = load_tokenizer(runner.tokenizer).encode(text)
    filled = {
        "input_ids": [ids],
        "attention_mask": [[1] * len(ids)],
        "token_type_ids": [[0] * len(ids)],
    }
    return {n: v for n, v in filled.items() if n in names}


def _tensor(name: str, value: Any, kind: Any) -> torch.Tensor:
    """A tensor of the type's dtype from a file or numbers. Raises ValidationError."""
    import json

    import torch

    from edgec.errors import ValidationError

    if isinstance(value, str) and value.endswith(".npy"):
        return _from_npy(name, Path(value), kind)
    if isinstance(value, str) and ".safetensors" in value:
        return _from_safetensors(name, value)
    try:
        numbers = json.loads(value) if isinstance(value, str) else value
        if not kind.dtype.is_float and torch.tensor(numbers).is_floating_point():
            raise ValueError("fractions")
        return torch.tensor(numbers, dtype=kind.dtype.torch_dtype)
    except (ValueError, TypeError, RuntimeError) as error:
        need = f"{kind} as FILE.npy or numbers such as [[1, 2]]"
        raise ValidationError(f"--input {name}", repr(value)[:60], need) from error


def _from_npy(name: str, path: Path, kind: Any) -> torch.Tensor:
    import numpy
    import torch

    from edgec.errors import FormatError

    try:
        array = numpy.load(path, allow_pickle=False)
        tensor = torch.from_numpy(numpy.ascontiguousarray(array))
        if tensor.is_floating_point() and not kind.dtype.is_float:
            raise ValueError(f"{array.dtype} values for {kind}")
        return tensor.to(kind.dtype.torch_dtype)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise FormatError(
            f"--input {name}", f"{path.name}: {error}", "a .npy file of numbers"
        ) from error


def _from_safetensors(name: str, value: str) -> torch.Tensor:
    from edgec.errors import FormatError
    from edgec.metrics.data import read_tensors

    file, _, key = value.partition(".safetensors:")
    path = Path(f"{file}.safetensors" if key else value)
    tensors = read_tensors(path)
    if (key or name) not in tensors:
        need = f"one of {', '.join(sorted(tensors))}"
        raise FormatError(path.name, f"no tensor {key or name}", need)
    return tensors[key or name]
