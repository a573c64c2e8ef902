"""The command line. Commands import what they need as they run: `edgec --help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edgec import __version__
from edgec.cli import build, check, show, use
from edgec.cli.console import check_text, fail, usage_error
from edgec.errors import BuildError, EdgecError, ValidationError

INTERNAL = 70  # exit code of an error that is edgec's own (EX_SOFTWARE)
INTERRUPTED = 130

EXIT_HELP = """
Exit codes: 0 accepted, 2 wrong input or options, 10 quality lost (REGRESSION), 11 the artifact is
wrong (ANOMALOUS), 12 too big (INFEASIBLE), 13 bigger than uncompressed (GREW), 14 slower than
allowed (SLOWER), 70 an error of edgec's own, 130 interrupted.
"""

app = typer.Typer(
    name="edgec",
    help="Compile PyTorch models to small, verified artifacts for edge devices.",
    epilog=EXIT_HELP.strip().replace("\n", " "),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in colours would cost 0.3 s of imports
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgec {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")
    ] = False,
) -> None:
    """Options of every command."""


for module in (build, check, show, use):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. An error is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        check_text(given)
        _tolerant_output()
        result = app([a for a in given if a != "--debug"], prog_name="edgec", standalone_mode=False)
        if sys.stdout is not None:  # closed by who started the process
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except EdgecError as error:
        return fail(error, error.exit_code, debug)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has gone, as in `edgec inspect X | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
        return 0
    except OSError as error:
        return fail(_system_error(error), EdgecError.exit_code, debug)
    except SystemExit as error:
        return fail(_ended(error), EdgecError.exit_code, debug)
    except Exception as error:
        code = usage_error(error)
        if code is not None:
            return code
        if debug:
            return fail(error, INTERNAL, debug)
        line = (str(error).strip() or "no text").splitlines()[0]
        text = f"[internal] {type(error).__name__}: {line}; run again with --debug"
        return fail(RuntimeError(text), INTERNAL, False)


def _tolerant_output() -> None:
    """What the terminal's encoding lacks is printed as an escape, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _system_error(error: OSError) -> EdgecError:
    """A file or device that fails where nothing else was to be said about it."""
    where = str(error.filename or "input or output")
    if error.filename is None:
        sys.stdout = open(os.devnull, "w")  # what failed may be flushed again at exit
    got = error.strerror or type(error).__name__
    return BuildError(where, got, "files and devices that can be read and written")


def _ended(error: SystemExit) -> EdgecError:
    got = f"SystemExit({error.code!r}) from code that edgec called"
    return ValidationError("edgec", got, "a model and a metric that return")
