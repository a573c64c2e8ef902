"""Golden text: the smallest program before, the pass, the program after; run before and after.

    # why this case exists
    fuse{sets=[norms]}
    batch=2, seq=3
    ==== before
    func @main(...) { ... }
    ==== after
    func @main(...) { ... }

The line of sizes is left out where the program has no named dims. `==== unchanged` in place of the
third part is for programs that the pass has to leave alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.interpreter import random_inputs
from edgec.ir import Exactness, Program
from edgec.ir.text import parse_program, show_program
from edgec.passes import PASSES, parse_pass
from edgec.transform import Pass, differs
from tests.passes.contiguous import Contiguous

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*/*.edgec"))


@dataclass(frozen=True)
class Case:
    spec: str
    env: dict[str, int]
    before: str
    after: str | None


def read_case(path: Path) -> Case:
    head, before, *rest = path.read_text().split("\n==== ")
    lines = [line for line in head.splitlines() if not line.startswith("#")]
    sizes = (pair.split("=") for pair in ",".join(lines[1:]).split(",") if pair.strip())
    env = {name.strip(): int(size) for name, size in sizes}
    kind, _, text = rest[0].partition("\n")
    assert before.startswith("before\n") and kind in ("after", "unchanged"), path
    return Case(lines[0], env, before.removeprefix("before\n"), text if kind == "after" else None)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_golden_text(path):
    case = read_case(path)
    before = parse_program(case.before).verify()
    step = parse_pass(case.spec)
    assert step.name == path.parent.name
    text = show_program(before)
    result = step.apply(before)
    assert show_program(before) == text, "the argument was changed"
    assert show_program(result.program.verify()) == normal(case.after or case.before)
    assert result.modified == (case.after is not None) == differs(before, result.program)
    again = step.apply(result.program)
    assert not again.modified and not differs(result.program, again.program)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_meaning_stays(path):
    case = read_case(path)
    if case.after is None:
        return
    before, after = parse_program(case.before), parse_program(case.after)
    for seed, more in enumerate((0, 1, 4)):
        env = {name: size + more for name, size in case.env.items()}
        check_meaning(parse_pass(case.spec), before, after, env, seed)


def normal(text: str) -> str:
    """The text without the freedom that a person has: order of constants, spaces, comments."""
    return show_program(parse_program(text))


def check_meaning(
    step: Pass, before: Program, after: Program, env: dict[str, int], seed: int
) -> None:
    """EXACT: the same numbers. ROUNDING: within the bound of the ops, from float64."""
    for name, graph in before.graphs.items():
        inputs = random_inputs(graph, env, seed)
        got = Contiguous(after).run(inputs, name)
        if step.effect is Exactness.EXACT:
            want = Contiguous(before).run(inputs, name)
            for g, w in zip(got, want, strict=True):
                torch.testing.assert_close(g, w, rtol=0, atol=0, equal_nan=True)
            continue
        want = Contiguous(before, compute=torch.float64).run(inputs, name)
        for g, w in zip(got, want, strict=True):
            allowed = 4 * factor_of(before, env) * torch.finfo(torch.float32).eps
            scale = float(w.abs().max()) if w.numel() else 0.0
            torch.testing.assert_close(g.double(), w.double(), rtol=0, atol=allowed * scale)


def factor_of(program: Program, env: dict[str, int]) -> float:
    """The widest factor of an op, times the root of the longest sum."""
    factor, terms = 1.0, 1.0
    for graph in program.graphs.values():
        for node in graph.nodes:
            types = [None if n is None else graph.type(n) for n in node.inputs]
            bound = [t and t.with_shape(*t.bind(env)) for t in types]
            factor = max(factor, node.op.factor)
            terms = max(terms, float(node.op.bind(env).reduction(bound)))
    return factor * math.sqrt(terms)


def test_every_clean_up_pass_has_golden_cases():
    clean_up = {n for n in PASSES if PASSES[n].split(":")[0].rsplit(".", 1)[1] in CLEAN_UP}
    assert clean_up == {path.parent.name for path in FILES}


CLEAN_UP = (
    "canonicalize",
    "eliminate_common_subexpressions",
    "eliminate_dead_code",
    "fold_constants",
    "fuse",
)
