"""What commands print with: progress and one-line errors on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from edgec.errors import EdgecError, FormatError

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]


def output(wide: bool = False) -> Console:
    """Standard output; `wide` tables are not cut where it is no terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200 if wide else 120, highlight=False)
    setattr(console, "on_broken_pipe", _reader_gone)  # noqa: B010 - rich would end the process
    return console


def _reader_gone() -> None:
    raise BrokenPipeError


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """A bar per stage while it runs; where standard error is no terminal, a line."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda stage, done, total: None
    elif console.is_terminal:
        with _bars(console) as report:
            yield report
    else:
        yield _lines()


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        state: dict[str, Any] = {"stage": None, "task": None}

        def report(stage: str, done: int, total: int) -> None:
            if stage != state["stage"]:
                if state["task"] is not None:
                    bars.remove_task(state["task"])
                state["task"] = bars.add_task(stage, total=max(1, total))
                state["stage"] = stage
            bars.update(state["task"], completed=done, total=max(1, total))

        yield report


def _lines() -> Progress:
    last: dict[str, str] = {"stage": ""}

    def report(stage: str, done: int, total: int) -> None:
        if stage != last["stage"]:
            last["stage"] = stage
            print(stage, file=sys.stderr, flush=True)

    return report


def fail(error: BaseException, code: int, debug: bool) -> int:
    """Print an error, with its traceback where asked; returns `code`."""
    if debug:
        traceback.print_exception(error)
    else:
        for line in error_lines(error):
            print(f"error: {line}", file=sys.stderr, flush=True)
    return code


def error_lines(error: BaseException) -> list[str]:
    """One line for one mistake; several at once have a line each, with their place in front."""
    mistakes = error.got.split("\n  ") if isinstance(error, EdgecError) else []
    if not isinstance(error, EdgecError) or len(mistakes) == 1:
        return [_joined(str(error))]
    lines = [m if m.startswith("[") else f"[{error.where}] {m}" for m in map(_joined, mistakes)]
    return [*lines[:-1], "; ".join(filter(None, (lines[-1], error.do)))]


def _joined(text: str) -> str:
    """Text of other programs may have lines; an error has one."""
    return " ".join(filter(None, (line.strip() for line in text.splitlines())))


# The base of all mistakes on a command line: of click, which typer brings with it under another
# name.
_USAGE = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def usage_error(error: Exception) -> int | None:
    """Print a mistake on the command line itself in one line; None for an error of another kind."""
    if isinstance(error, typer.Abort):
        return 130
    if not isinstance(error, _USAGE):
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "edgec"
    text = _joined(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    print(f"error: [command line] {text}; see {command} --help", file=sys.stderr, flush=True)
    return 2


def key_values(texts: list[str], what: str) -> dict[str, str]:
    """`name=value` arguments. Raises RecipeError for anything else, and for a name given twice."""
    from edgec.errors import RecipeError

    wrong = [t for t in texts if "=" not in t or t.startswith("=")]
    if wrong:
        raise RecipeError(what, ", ".join(wrong), "NAME=VALUE")
    names = [t.split("=", 1)[0] for t in texts]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise RecipeError(what, f"{', '.join(twice)} more than once", "one value for each name")
    return dict(t.split("=", 1) for t in texts)


def check_text(texts: Sequence[str], where: str = "command line") -> None:
    """Raise FormatError for the first text that holds bytes which are not UTF-8."""
    for i, text in enumerate(texts, 1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = ascii(text)[:60]
            raise FormatError(
                where, f"bytes that are no text in {shown}, argument {i}", "UTF-8"
            ) from error
