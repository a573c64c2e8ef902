"""Every clean-up pass on random programs: the meaning and the argument stay, twice is once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from edgec.comparison import FILLER_ROUNDING, fillers
from edgec.interpreter import random_inputs
from edgec.ir import Exactness
from edgec.ir.text import parse_program, show_program
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.transform import differs
from tests.passes.contiguous import Contiguous
from tests.passes.random_programs import programs

SPECS = (*dict.fromkeys(CLEANUP), "fold-constants{limit_bytes=16}")
EXACT = [s for s in SPECS if parse_pass(s).effect is Exactness.EXACT]
ROUNDING = [s for s in SPECS if s not in EXACT]
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def outputs(program, seed, compute=None):
    graph = program.main
    inputs = random_inputs(graph, {"batch": 1 + seed % 3}, seed)
    return Contiguous(program, compute=compute).run(inputs)


def check_contract(step, program):
    """Well formed, honest, idempotent, without side effects; the text can be read back."""
    text = show_program(program)
    result = step.apply(program)
    assert show_program(program) == text
    result.program.verify()
    assert result.modified == differs(program, result.program)
    again = step.apply(result.program)
    assert not again.modified, show_program(again.program)
    assert not differs(result.program, again.program)
    after = show_program(result.program)
    assert show_program(parse_program(after, result.program.constants)) == after
    return result.program


@pytest.mark.parametrize("spec", EXACT)
def test_exact_passes_keep_every_bit(spec):
    @FEW
    @given(programs(exact=True))
    def check(program):
        after = check_contract(parse_pass(spec), program)
        for seed in range(3):
            for got, want in zip(outputs(after, seed), outputs(program, seed), strict=True):
                torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)

    check()


@pytest.mark.parametrize("spec", ROUNDING)
def test_rounding_passes_keep_the_formula(spec):
    """In float64 only the rounding of constants to float32 is left."""

    @FEW
    @given(programs(exact=False))
    def check(program):
        check_close(program, check_contract(parse_pass(spec), program))

    check()


@FEW
@given(programs(exact=False))
def test_the_clean_up_pipeline_keeps_the_formula(program):
    after, records = parse_pipeline(CLEANUP).run(program)
    check_close(program, after)
    assert records[-1].nodes_after <= records[0].nodes_before


def check_close(before, after):
    for seed in range(3):
        pairs = zip(
            outputs(after, seed, torch.float64), outputs(before, seed, torch.float64), strict=True
        )
        for got, want in pairs:
            masked = fillers(want.double())
            torch.testing.assert_close(got[masked], want[masked], rtol=FILLER_ROUNDING, atol=0)
            ordinary = want[~masked]
            scale = float(ordinary.double().abs().max()) if ordinary.numel() else 0.0
            atol = 1e-5 * max(scale, 1.0)
            torch.testing.assert_close(got[~masked], ordinary, rtol=0, atol=atol)
