"""The import direction of edgec/DESIGN.md, held by reading every import statement.

    errors <- ir <- ops <- { capture, transform, target, kernels } <- passes <- targets
           <- { validate, recipe, release, budget, report } <- compiler <- cli

An import inside of a function, or under TYPE_CHECKING, counts like any other.
"""

from __future__ import annotations

import ast
import inspect
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("passes", "targets", "runtime", "models")

# Each unit of edgec (a file or folder), lowest layer first. A unit imports itself and units of
# lower layers; units of one layer know nothing of each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"patterns", "pieces"}),
    frozenset({"measure", "records", "runtime", "tokenizer", "userfunction"}),
    frozenset({"ir", "comparison"}),
    frozenset({"sequences"}),
    frozenset({"context", "ops", "runner", "vocabulary"}),
    frozenset({"nn"}),
    frozenset({"capture", "transform", "target", "kernels"}),
    frozenset({"passes"}),
    frozenset({"targets"}),
    frozenset({"translate"}),
    frozenset({"metrics"}),
    frozenset({"recipe", "validate"}),
    frozenset({"release"}),
    frozenset({"budget", "report"}),
    frozenset({"compiler"}),
    frozenset({"models"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# The interpreter is the meaning of the IR (`Program.run` calls it); `python -m edgec` is the CLI.
PART_OF = {"interpreter": "ir", "__main__": "cli"}
LAYER_OF = {unit: level for level, units in enumerate(LAYERS) for unit in units}

# Packages that only the named places may import, at any depth of a function.
ONLY_IN = {
    "tvm": ("edgec/kernels/",),
    "onnx": ("targets/onnx/",),
    "onnx_ir": ("targets/onnx/",),
    "onnxruntime": ("targets/onnx/",),
    "onnxscript": ("targets/onnx/",),
    "coremltools": ("targets/coreml/",),
    "tensorflow": ("targets/tfjs/", "targets/nnapi/"),
    "ai_edge_litert": ("targets/nnapi/",),
    "transformers": ("edgec/capture/", "models/"),
    "ray": ("edgec/budget/",),
    "typer": ("edgec/cli",),
}

# Nothing of this may be loaded by `import edgec` or by `edgec --help`.
HEAVY = frozenset(ONLY_IN) - {"typer"} | {"torch", "sympy", "scipy", "matplotlib", "numpy"}


@dataclass(frozen=True)
class Import:
    """One imported module: the file and line that ask, and the dotted name that is asked for."""

    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def module_files() -> list[Path]:
    """Every Python file that is installed, by its real path in the repository."""
    found = []
    for top in ("edgec", *LINKED):
        for path in sorted((ROOT / top).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                found.append(path)
    return found


def unit_of(path: str) -> str:
    """`edgec/ir/graph.py` -> `ir`, `passes/fold.py` -> `passes`, `edgec/cli.py` -> `cli`."""
    top, *rest = Path(path).with_suffix("").parts
    unit = top if top in LINKED else rest[0]
    return PART_OF.get(unit, unit)


def imports_of(tree: ast.Module, file: str) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} has a relative import"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


def all_imports() -> list[Import]:
    return [
        found
        for path in module_files()
        for file in [path.relative_to(ROOT).as_posix()]
        for found in imports_of(ast.parse(path.read_text(encoding="utf-8"), file), file)
    ]


def breaks_direction(found: Import) -> str | None:
    """Why this import is not allowed, or None."""
    parts = found.module.split(".")
    here = unit_of(found.file)
    if parts[0] != "edgec" or len(parts) == 1 or here == "__init__":
        return None
    there = PART_OF.get(parts[1], parts[1])
    if there == "__version__" or there == here:
        return None
    if here not in LAYER_OF:
        return f"{found}: `{here}` has no layer; add it to LAYERS"
    if there not in LAYER_OF:
        return f"{found}: `{there}` has no layer; import the module that defines the name"
    if LAYER_OF[there] >= LAYER_OF[here]:
        return f"{found}: {here} may only import from lower layers than its own"
    return None


def test_every_unit_has_a_layer() -> None:
    units = {unit_of(path.relative_to(ROOT).as_posix()) for path in module_files()}
    assert units - {"__init__", "__main__"} <= set(LAYER_OF), "add the new unit to LAYERS"


def test_imports_point_one_way() -> None:
    assert not [reason for found in all_imports() if (reason := breaks_direction(found))]


def test_packages_stay_in_their_place() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        for places in [ONLY_IN.get(found.module.split(".")[0])]
        if places and not found.file.startswith(places)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("file", "module", "allowed"),
    [
        ("edgec/ir/graph.py", "edgec.errors.VerifyError", True),
        ("edgec/ir/graph.py", "edgec.ops.linear", False),
        ("edgec/ops/linear.py", "edgec.ir.op", True),
        ("edgec/capture/hub.py", "edgec.kernels.attention", False),
        ("passes/fold.py", "edgec.targets.onnx", False),
        ("targets/onnx/lower.py", "edgec.passes.fold", True),
        ("edgec/compiler.py", "edgec.cli", False),
        ("edgec/errors.py", "edgec.ir", False),
        ("edgec/cli.py", "edgec.compile", False),
    ],
)
def test_the_rule_itself(file: str, module: str, allowed: bool) -> None:
    assert (breaks_direction(Import(file, 1, module)) is None) is allowed


def names_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a module, without its docstrings."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documentation:
                yield node.lineno, node.value


# `native` is left out: it is a word of the support tables (native, decoded, widened, unsupported).
TARGET_NAMES = re.compile(r"(?<![a-z])(onnx|onnxruntime|coreml|tfjs|nnapi|tflite)(?![a-z])", re.I)


def test_the_core_names_no_target() -> None:
    wrong = []
    for path in module_files():
        file = path.relative_to(ROOT).as_posix()
        if not file.startswith(("edgec/", "passes/")):
            continue
        for line, text in names_in(ast.parse(path.read_text(encoding="utf-8"), file)):
            if TARGET_NAMES.search(text):
                wrong.append(f"{file}:{line}: {text[:60]!r}; let the target say it as data")
    assert not wrong


def test_the_scan_for_target_names_sees_strings_and_identifiers_only() -> None:
    source = """
    '''onnx in a docstring'''
    kind = "an onnx file"
    emit_tfjs(f"{kind} coreml")
    # nnapi in a comment
    """
    found = [text for _, text in names_in(ast.parse(inspect.cleandoc(source)))]
    assert [bool(TARGET_NAMES.search(text)) for text in found].count(True) == 3


def run_and_list_imports(code: str) -> tuple[set[str], float]:
    """Top-level packages that a fresh interpreter imports for `code`, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    packages = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    return packages, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


HELP = "import sys; sys.argv = ['edgec', '--help']; from edgec.cli import main; sys.exit(main())"


@pytest.mark.parametrize("code", ["import edgec", HELP], ids=["import", "help"])
def test_start_loads_nothing_heavy(code: str) -> None:
    packages, _ = run_and_list_imports(code)
    assert "edgec" in packages
    assert not packages & HEAVY


def test_help_takes_less_than_300_ms() -> None:
    """CPU time, since other processes stretch the wall time; the best of a few is the true cost."""
    assert min(run_and_list_imports(HELP)[1] for _ in range(4)) < 0.3
