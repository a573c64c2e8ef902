"""Where the C library's sources lie, for those who compile it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent
INCLUDE = ROOT / "include"


def library_sources() -> list[Path]:
    """Sources that every compiled model is linked with."""
    return sorted((ROOT / "src").glob("*.c"))


def check_sources() -> list[Path]:
    """Sources of the check program, besides the library and a model. It includes from src/ too."""
    return sorted((ROOT / "check").glob("*.c"))
