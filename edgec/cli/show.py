"""`edgec inspect` and `edgec list`: what is in an artifact, and what there is to choose from."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgec.cli.console import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table

    from edgec.release.manifest import Manifest


class Kind(StrEnum):
    passes = "passes"
    targets = "targets"
    ops = "ops"
    models = "models"
    metrics = "metrics"


def register(app: typer.Typer) -> None:
    app.command(short_help="Show what is in an artifact.")(inspect)
    app.command("list", short_help="List passes, targets, ops, ...")(list_)


def inspect(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT|RELEASE", help="A release, or what a target wrote.")
    ],
    variant: Annotated[str, typer.Option(help="This variant of several.")] = "",
    top: Annotated[int, typer.Option(min=0, help="How many of the biggest tensors to show.")] = 12,
) -> int:
    """Functions and signatures, where the bytes are, what was checked; damage of what ships."""
    from edgec.release import Release
    from edgec.release.manifest import NAME, load_manifest
    from edgec.release.summary import NAME as SUMMARY
    from edgec.release.summary import load_summary

    console = output(wide=True)
    if (artifact / SUMMARY).is_file():
        artifact = artifact / load_summary(artifact).choose(variant)
    if (artifact / NAME).exists():
        manifest = load_manifest(artifact)
        _show_release(console, manifest, top)
        Release(artifact, manifest).check_files([f for f in manifest.files if f.ships])
    else:
        _show_artifact(console, artifact)
    return 0


def _show_release(console: Console, manifest: Manifest, top: int) -> None:
    from rich.markup import escape

    from edgec.cli.format import short, verdict
    from edgec.measure import show_bytes

    sizes, quality = manifest.sizes, manifest.quality
    console.print(
        f"[bold]{escape(manifest.name)}[/]  {escape(manifest.model)}  {manifest.target}  "
        f"{verdict(manifest.verdict)}"
    )
    for line in (*manifest.reasons, *manifest.warnings, *manifest.notes):
        console.print(f"  {line}", markup=False)
    console.print(
        f"{show_bytes(sizes.shipped_bytes)} ship, the model {show_bytes(sizes.model_bytes)} "
        f"({sizes.ratio:.3f} of uncompressed); {quality.metric} {short(quality.value)} "
        f"(uncompressed {short(quality.original)}); fidelity {short(manifest.fidelity.max_ratio)}"
    )
    signatures = [
        (
            f.name,
            [(t.name, t.type) for t in f.inputs],
            [(t.name, t.type) for t in f.outputs],
            f.dims,
        )
        for f in manifest.functions
    ]
    console.print(_signatures(signatures))
    files = _table("files", "file", "kind", ">bytes", ">brotli")
    for f in manifest.files:
        brotli = "" if f.brotli_bytes is None else f"{f.brotli_bytes:,}"
        _add(files, f.name, f.kind, f"{f.size_bytes:,}", brotli)
    console.print(files)
    console.print(_encodings(manifest))
    console.print(_biggest(manifest, top))


def _encodings(manifest: Manifest) -> Table:
    groups: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for c in manifest.constants:
        for i, amount in enumerate((1, c.original_bytes or 0, c.stored_bytes)):
            groups[c.encoding][i] += amount
    table = _table("bytes by encoding", "encoding", ">tensors", ">before", ">stored", ">part")
    total = sum(g[2] for g in groups.values()) or 1
    for name, (count, before, stored) in sorted(groups.items(), key=lambda g: -g[1][2]):
        part = f"{100 * stored / total:.1f} %"
        _add(table, name, str(count), f"{before:,}", f"{stored:,}", part)
    return table


def _biggest(manifest: Manifest, top: int) -> Table:
    from edgec.cli.format import short

    table = _table(
        "biggest tensors", "tensor", "type", "encoding", ">stored", ">error", "support", "used by"
    )
    for c in sorted(manifest.constants, key=lambda c: -c.stored_bytes)[:top]:
        _add(
            table,
            c.name,
            c.type,
            c.encoding,
            f"{c.stored_bytes:,}",
            short(c.error),
            c.support,
            ", ".join(c.used_by),
        )
    return table


def _show_artifact(console: Console, path: Path) -> None:
    """Files that some target wrote, without a release around them."""
    from rich.markup import escape

    from edgec.cli.artifact import open_artifact

    target, executable, folder = open_artifact(path)
    console.print(f"[bold]{escape(path.name)}[/]  {target}")
    console.print(
        _signatures(
            (
                s.name,
                [(v.name, str(v.type)) for v in s.inputs],
                [(v.name, str(v.type)) for v in s.outputs],
                {n: (r.min, r.max) for n, r in s.dims.items()},
            )
            for s in executable.functions.values()
        )
    )
    files = _table("files", "file", ">bytes")
    for found in sorted(p for p in folder.rglob("*") if p.is_file()):
        _add(files, found.relative_to(folder).as_posix(), f"{found.stat().st_size:,}")
    console.print(files)


Pairs = list[tuple[str, str]]


def _signatures(functions: Iterable[tuple[str, Pairs, Pairs, object]]) -> Table:
    table = _table("functions", "function", "", "name", "type")
    for name, inputs, outputs, dims in functions:
        table.add_section()
        rows = [("in", *t) for t in inputs] + [("out", *t) for t in outputs]
        assert isinstance(dims, dict)
        rows += [("dim", n, f"{low} .. {high}") for n, (low, high) in dims.items()]
        for i, row in enumerate(rows):
            _add(table, name if i == 0 else "", *row)
    return table


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose title starts with ">" is aligned right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column.startswith(">")
        table.add_column(escape(column.lstrip(">")), justify="right" if right else "left")
    return table


def _add(table: Table, *cells: str) -> None:
    """A row of plain text: the brackets of `f32[batch, 8]` are no markup."""
    from rich.markup import escape

    table.add_row(*map(escape, cells))


# ------------------------------------------------------------------ list
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> int:
    """What there is: passes with their options, targets, ops, reference models, metrics."""
    console = output(wide=True)
    console.print({
        Kind.passes: _passes,
        Kind.targets: _targets,
        Kind.ops: _ops,
        Kind.models: _models,
        Kind.metrics: _metrics,
    }[kind]())  # fmt: skip
    return 0


def _passes() -> Table:
    from edgec.passes import PASSES, pass_class

    table = _table("passes", "pass", "effect", "data", "options", "does")
    for name in sorted(PASSES):
        cls = pass_class(name)
        # A property where options decide.
        data = {True: "needed", False: ""}.get(cls.needs_calibration, "by option")
        table.add_row(name, cls.effect.value, data, _options(cls.options()), _first_line(cls))
    return table


def _targets() -> Table:
    from edgec.errors import UnsupportedError
    from edgec.targets import TARGETS, target_class

    table = _table("targets", "target", "options", "writes")
    for name in TARGETS:
        try:
            cls = target_class(name)
        except UnsupportedError as error:
            table.add_row(name, "", str(error))
            continue
        table.add_row(name, _options(dataclasses.fields(cls)), _first_line(cls))
    return table


def _ops() -> Table:
    import edgec.ops  # noqa: F401 - registers the ops
    from edgec.ir import OPS

    table = _table(f"{len(OPS)} ops", "op", "exactness", "attributes", "computes")
    for name, cls in sorted(OPS.items()):
        table.add_row(
            name, cls.exactness.value, _options(dataclasses.fields(cls)), _first_line(cls)
        )
    return table


def _models() -> Table:
    import tomllib

    import edgec.models

    table = _table("models", "recipe", "name", "variants")
    for folder in edgec.models.__path__:
        for recipe in sorted(Path(folder).glob("*/recipe.toml")):
            content = tomllib.loads(recipe.read_text("utf-8"))
            table.add_row(
                str(recipe), str(content.get("name", "")), ", ".join(content.get("build", {}))
            )
    return table


def _metrics() -> Table:
    from edgec.metrics import METRICS

    table = _table("metrics", "metric", "unit", "is")
    for name, metric in METRICS.items():
        table.add_row(name, metric.unit, _first_line(metric.measure))
    return table


def _options(fields: Iterable[dataclasses.Field[Any]]) -> str:
    from rich.markup import escape

    from edgec.ir.text import show_value

    missing = dataclasses.MISSING
    return escape(
        ", ".join(
            f.name if f.default is missing else f"{f.name}={show_value(f.default)}" for f in fields
        )
    )


def _first_line(documented: object) -> str:
    from rich.markup import escape

    return escape((documented.__doc__ or "").strip().split("\n")[0])
