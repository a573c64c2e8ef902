"""Every error that a user can meet, with one grammar: `[where] got X; need Y; do Z`."""

from __future__ import annotations

from typing import ClassVar


class EdgecError(Exception):
    """Base of all edgec errors.

    where   the op, pass, file or option that complains
    got     what was found
    need    the constraint that it breaks ("" when `got` says all)
    do      what the user can do about it ("" when there is no choice)
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, where: str, got: str, need: str = "", do: str = "") -> None:
        self.where, self.got, self.need, self.do = where, got, need, do
        parts = [f"[{where}] {got if not need else 'got ' + got}"]
        parts += [f"need {need}"] if need else []
        parts += [do] if do else []
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[type[EdgecError], tuple[str, str, str, str]]:
        return type(self), (self.where, self.got, self.need, self.do)


class TypeCheckError(EdgecError):
    """An op does not accept the types of its operands or its attributes."""


class VerifyError(EdgecError):
    """A graph or program breaks an invariant of the IR."""


class CaptureError(EdgecError):
    """A model cannot be captured."""


class PassError(EdgecError):
    """A pass failed, or its options are wrong."""


class UnsupportedError(EdgecError):
    """A target cannot express an op, a type or an encoding."""


class FormatError(EdgecError):
    """A file is not what it should be: truncated, corrupted, of another kind or version."""


class ValidationError(EdgecError):
    """An artifact does not compute what it should, or an input is outside of what it accepts."""


class RecipeError(EdgecError):
    """A recipe or an option of the command line is wrong."""


class BuildError(EdgecError):
    """A release could not be written."""
