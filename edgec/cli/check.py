"""`edgec verify` and `edgec bench`: the checks of a release again, and its speed here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import output, progress


def register(app: typer.Typer) -> None:
    app.command(short_help="Repeat every check of a release.")(verify)
    app.command(short_help="Measure the speed of a release.")(bench)


def verify(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of a release.")],
    variant: Annotated[str, typer.Option(help="Only this variant of several.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Repeat every check of the build, from the files of the release alone."""
    from rich.markup import escape

    from edgec.release import Release
    from edgec.release.summary import NAME, load_summary

    names = [variant]
    if not variant and (release / NAME).is_file():
        names = [row.name for row in load_summary(release).variants]
    console = output()
    codes = []
    for name in names:
        with progress(quiet) as report:
            opened = Release.load(release, name)
            found = opened.verify(report)
        console.print(f"[bold]{escape(str(opened.path))}[/]")
        for step in found.steps:
            mark = "[green]ok[/]    " if step.passed else "[red]FAILED[/]"
            console.print(f"  {mark} {step.name:9}", end=" ")
            console.print(step.found, markup=False)
        for reason in opened.manifest.reasons:
            console.print(f"  {reason}", markup=False)
        codes.append(found.exit_code)
    return max(codes, default=0)


def bench(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of a release.")],
    variant: Annotated[str, typer.Option(help="Only this variant of several.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the host runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=3, help="Calls per function.")] = 30,
) -> int:
    """CPU time of each function at its typical sizes, on this machine."""
    from rich.markup import escape
    from rich.table import Table

    from edgec.measure import cpu_ms
    from edgec.release import Release
    from edgec.release.golden import load_cases
    from edgec.release.summary import NAME, load_summary

    names = [variant]
    if not variant and (release / NAME).is_file():
        names = [row.name for row in load_summary(release).variants]
    opened = [Release.load(release, name, threads) for name in names]
    table = Table(title=f"CPU time per call, {threads} thread(s)", title_justify="left")
    table.add_column("function")
    for one in opened:
        table.add_column(one.manifest.recipe.name or escape(one.path.name), justify="right")
    cases = {
        c.function: c
        for c in load_cases(opened[0].path, opened[0].manifest.fidelity.checked)
        if c.setting.label in ("typical", "fixed")
    }
    with progress() as report:
        for i, (name, case) in enumerate(cases.items()):
            report(f"measure {name}", i, len(cases))
            inputs = list(case.inputs)
            calls = [lambda r=r: r.executable.run(name, inputs) for r in opened]  # noqa: B023 - called here
            times = cpu_ms(calls, runs, limit_s=20.0)
            sizes = ", ".join(f"{d}={n}" for d, n in case.setting.env.items())
            table.add_row(f"{name} ({sizes})", *(f"{t:.2f} ms" for t in times))
    output().print(table)
    return 0
