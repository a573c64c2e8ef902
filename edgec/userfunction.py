"""`package.module:function` of a user: found, called, and what goes wrong told in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from edgec.errors import EdgecError, RecipeError

# What the code of others may raise; a script that is imported may well end in `sys.exit()`.
FAILURES = (Exception, SystemExit)


def find(text: str, where: str, folder: Path | None = None) -> Callable[..., Any]:
    """The function that `text` names; its module is also looked up in `folder` (default: here).

    where   the option that names it, for errors
    Raises RecipeError for a module that cannot be imported and a name that is no function.
    """
    module, _, attribute = text.partition(":")
    with importable(folder or Path.cwd()):
        found = getattr(_import(module, text, where), attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    held = vars(sys.modules[module])
    callables = sorted(n for n, v in held.items() if callable(v) and n[0] != "_")
    need = f"a function, such as {', '.join(callables[:6]) or 'one to be written'}"
    raise RecipeError(where, f"{text}: no function {attribute}", need)


def _import(module: str, text: str, where: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            do = "check the name, or run where the module lies"
            need = "a package.module:function that can be imported"
            raise RecipeError(where, f"{text}: no module {missing}", need, do) from error
        got = f"{module} imports {missing}, which is not installed"
        raise RecipeError(where, got, "a module that can be imported", "install it") from error
    except FAILURES as error:
        got = f"importing {module} raised {describe(error)}"
        raise RecipeError(where, got, "", "correct it, or run again with --debug") from error


@contextlib.contextmanager
def told(text: str, where: str, kind: type[EdgecError]) -> Iterator[None]:
    """What the user's code raises within the block becomes an error of `kind`; edgec's own pass."""
    try:
        yield
    except EdgecError:
        raise
    except FAILURES as error:
        do = "call it in Python, or run again with --debug"
        raise kind(where, f"{text} raised {describe(error)}", "", do) from error


def describe(error: BaseException) -> str:
    """The error's class and the first line of its text."""
    line = (str(error).strip() or "no text").splitlines()[0][:200]
    return f"{type(error).__name__}: {line}"


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """`folder` first on the search path."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
