"""Where the C library's sources lie and how they are compiled, for those who do."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent
INCLUDE = ROOT / "include"
LOADER_JS = ROOT / "loader.mjs"

# What loader.mjs calls, and the table through which it calls shape functions.
WASM_EXPORTS = (
    "edgec_call",
    "edgec_create",
    "edgec_destroy",
    "edgec_last_error",
    "edgec_model_of",
    "edgec_profile_of",
    "edgec_release",
    "edgec_reserve",
    "edgec_status_name",
    "edgec_status_text",
    "edgec_variant_of",
)
WASM_COMPILE = ("-DEDGEC_WITHOUT_LIBC", "-ffreestanding", "-msimd128", "-mbulk-memory")
# For wasm-ld. The stack comes first, so that an overflow traps instead of writing over data.
WASM_LINK = (
    "--no-entry",
    "--export-table",
    "--stack-first",
    "--strip-all",
    "-z",
    "stack-size=131072",
    *(f"--export={name}" for name in WASM_EXPORTS),
)


def library_sources() -> list[Path]:
    """Sources that every compiled model is linked with."""
    return sorted((ROOT / "src").glob("*.c"))


def check_sources() -> list[Path]:
    """Sources of the check program, besides the library and a model. They include from src/ too,
    and need -lm."""
    return sorted((ROOT / "check").glob("*.c"))
