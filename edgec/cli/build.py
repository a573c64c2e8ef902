"""`edgec build`: a recipe, or a model with options, becomes a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgec.cli.console import key_values, output, progress

if TYPE_CHECKING:
    from edgec.release import Release
    from edgec.release.summary import Summary


def register(app: typer.Typer) -> None:
    app.command(short_help="Compile a model or a recipe.")(build)


def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE.toml|MODEL",
            help="A recipe file, hf:DIRECTORY, or package.module:function.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the release.")] = Path("release"),
    target: Annotated[
        str | None, typer.Option(help="Kind of artifact (`edgec list targets`).")
    ] = None,
    passes: Annotated[
        list[str] | None,
        typer.Option(
            "--pass", metavar="SPEC", help="A pass, as quantize-weights{bits=8}; repeats."
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the target; repeats.")
    ] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Typical size of a named dimension; repeats."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Evaluation data.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Data for passes that look at activations.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="bleu, chrf, top1, cosine, or module:function.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option(help="Quality that may be lost.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Bytes that may ship, as 6MB.")] = None,
    max_ratio: Annotated[
        float | None, typer.Option(help="Model bytes over those of the uncompressed build.")
    ] = None,
    allow_bigger: Annotated[
        bool, typer.Option("--allow-bigger", help="Accept more bytes than uncompressed.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a folder that edgec has not written.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Compress a model, emit it, execute what was written, and write a checked release."""
    settings = {
        "target": target,
        "passes": passes or None,
        "options": option or None,
        "dims": dim or None,
        "data": data,
        "calibration": calibration,
        "metric": metric,
        "max_drop": max_drop,
        "max_size": max_size,
        "max_ratio": max_ratio,
        "allow_bigger": allow_bigger or None,
    }
    if source.endswith(".toml"):
        return _build_recipe(Path(source), out, force, quiet, settings)
    return _build_model(source, out, force, quiet, settings)


def _build_recipe(path: Path, out: Path, force: bool, quiet: bool, settings: dict[str, Any]) -> int:
    from edgec.compiler.variants import build_recipe
    from edgec.errors import RecipeError
    from edgec.recipe import load_recipe

    if given := [name for name, value in settings.items() if value is not None]:
        options = ", ".join(map(_spelled, given))
        do = f"write it into {path.name}"
        raise RecipeError("command line", f"{options} beside a recipe", "no such options", do)
    recipe = load_recipe(path)
    with progress(quiet) as report:
        summary = build_recipe(recipe, out, force, report)
    _print_summary(summary, out)
    return summary.exit_code


def _build_model(source: str, out: Path, force: bool, quiet: bool, settings: dict[str, Any]) -> int:
    import edgec
    from edgec.compiler.loading import load_model
    from edgec.release.publish import check_writable

    options = {k: _value(v) for k, v in key_values(settings["options"] or [], "--option").items()}
    dims = {k: _whole(k, v) for k, v in key_values(settings["dims"] or [], "--dim").items()}
    _check_settings(settings, options)
    check_writable(out, force)
    with progress(quiet) as report:
        report(f"load {source}", 0, 1)
        model = load_model(source)
        release = edgec.compile(
            model.program,
            settings["passes"] or (),
            settings["target"] or "",
            out,
            options=options,
            metric=settings["metric"] or model.metric,
            data=settings["data"],
            calibration=settings["calibration"],
            max_drop=settings["max_drop"],
            max_size=settings["max_size"],
            max_ratio=settings["max_ratio"],
            allow_bigger=bool(settings["allow_bigger"]),
            dims=dims,
            samples=model.samples,
            model=model.name,
            force=force,
            progress=report,
        )
    _print_release(release, out)
    return release.manifest.exit_code


def _spelled(setting: str) -> str:
    """An option as it stands on the command line."""
    singular = {"passes": "pass", "options": "option", "dims": "dim"}
    return "--" + singular.get(setting, setting).replace("_", "-")


def _check_settings(settings: dict[str, Any], options: dict[str, Any]) -> None:
    """Raise EdgecError for what no model could make right, before one is loaded."""
    from edgec.errors import RecipeError
    from edgec.measure import parse_bytes
    from edgec.metrics import get_metric
    from edgec.metrics.data import check_kind
    from edgec.passes import parse_pipeline
    from edgec.recipe import check_limits
    from edgec.targets import TARGETS, get_target

    steps = parse_pipeline(settings["passes"] or ()).passes
    eager = [str(s) for s in steps if s.needs_calibration]
    if eager and settings["calibration"] is None:
        got, need = f"{', '.join(eager)} without data", "inputs like those that the model will get"
        raise RecipeError("--pass", got, need, "add --calibration FILE")
    get_target(settings["target"] or next(iter(TARGETS)), options)
    get_metric(settings["metric"] or "")
    for name in ("data", "calibration"):
        if settings[name] is not None:
            check_kind(settings[name])
    if settings["max_size"] is not None:
        parse_bytes(settings["max_size"], "--max-size")
    check_limits({_spelled(name): settings[name] for name in ("max_drop", "max_ratio")})


def _value(text: str) -> Any:
    """A word, number, true or false of the command line."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _whole(name: str, text: str) -> int:
    from edgec.errors import RecipeError

    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise RecipeError("--dim", f"{name}={text[:40]}", "a whole number from 1 on")
    return int(text)


# ------------------------------------------------------------------ the table at the end
def _print_summary(summary: Summary, out: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from edgec.cli.format import percent, short, verdict
    from edgec.measure import show_bytes

    figures = list(
        dict.fromkeys(
            k for r in summary.variants for k, v in r.figures.items() if not isinstance(v, str)
        )
    )
    table = Table(title=escape(f"{summary.name}: {summary.model}"), title_justify="left")
    table.add_column("variant")
    for title in (
        "model",
        "brotli",
        "ratio",
        *figures,
        "drop",
        "fidelity",
        "agreement",
        "seconds",
    ):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for row in summary.variants:
        brotli = "-" if row.model_brotli_bytes is None else show_bytes(row.model_brotli_bytes)
        cells = [row.name, show_bytes(row.model_bytes), brotli, f"{row.ratio:.3f}"]
        cells += [short(row.figures.get(name)) for name in figures]
        cells += [short(row.drop), short(row.fidelity_max_ratio), percent(row.agreement)]
        table.add_row(*cells, f"{row.seconds:.0f}", verdict(row.verdict))
    console = output(wide=True)
    console.print(table)
    for row in summary.variants:
        for reason in row.reasons:
            console.print(f"{row.name}: {reason}", markup=False)
    chosen = f", default {summary.default}" if summary.default else ""
    console.print(f"{out} in {summary.seconds:.0f} s{chosen}", markup=False)


def _print_release(release: Release, out: Path) -> None:
    from rich.markup import escape

    from edgec.cli.format import short, verdict
    from edgec.measure import show_bytes

    manifest = release.manifest
    sizes, quality = manifest.sizes, manifest.quality
    console = output()
    console.print(
        f"{escape(str(out))}: {verdict(manifest.verdict)}  {show_bytes(sizes.model_bytes)} "
        f"({sizes.ratio:.3f} of uncompressed), {quality.metric} {short(quality.value)} "
        f"(drop {short(quality.drop)}), fidelity {short(manifest.fidelity.max_ratio)}"
    )
    for line in (*manifest.reasons, *manifest.warnings):
        console.print(line, markup=False)
