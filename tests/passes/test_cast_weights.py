"""cast-weights: 16-bit storage of f32 constants, and what is too wide or too small for it."""

from __future__ import annotations

import pytest
import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, Sparse, TensorType, symbol
from edgec.passes import parse_pass, parse_pipeline
from edgec.transform import differs


def make_program(w=None, bias=None) -> Program:
    generator = torch.Generator().manual_seed(0)
    rows = TensorType(DType.F32, (symbol("batch"), 64))
    b = Builder.new("main", [("x", rows)], {}, {"batch": Range(1, 8)})
    w = torch.randn(48, 64, generator=generator) if w is None else w
    x = b.linear(b.input("x"), b.constant(w, "w"), b.constant(torch.ones(48), "bias"))
    graph = b.finish([x], ["out"])
    return Program({"main": graph}, graph.constants).verify()


@pytest.mark.parametrize(("dtype", "bound"), [("f16", 2**-11), ("bf16", 2**-8)])
def test_constants_are_stored_in_16_bits_and_seen_as_f32(dtype, bound):
    program = make_program()
    after, (record,) = parse_pipeline([f"cast-weights{{dtype={dtype}}}"]).run(program)
    stored = after.constants["w"]
    assert stored.encoding.describe() == f"dense({dtype})"
    assert str(stored.type) == "f32[48, 64]"
    assert stored.encoding.nbytes == 48 * 64 * 2
    w, cast = program.constants["w"].encoding.decode(), stored.encoding.decode()
    assert bool(((w - cast).abs() <= bound * w.abs() + 2**-25).all())
    assert 0 < record.errors["w"] <= bound
    assert record.notes == ("1 constants of less than 256 elements; left dense",)


def test_small_constants_are_cast_where_asked_for():
    after, (record,) = parse_pipeline(["cast-weights{min_numel=0}"]).run(make_program())
    assert record.errors.keys() == {"w", "bias"}
    assert after.nbytes == 2 * (48 * 64 + 48)


@pytest.mark.parametrize(("dtype", "value"), [("f16", 65520.0), ("bf16", 3.4e38)])
def test_values_beyond_the_range_are_reported_and_left(dtype, value):
    w = torch.zeros(48, 64)
    w[3, 5] = -value
    program = make_program(w)
    after, (record,) = parse_pipeline([f"cast-weights{{dtype={dtype}}}"]).run(program)
    assert not record.modified
    assert after.constants["w"].encoding is program.constants["w"].encoding
    assert record.notes[0].startswith(f"@w: 1 values beyond the range of {dtype} (in [-")


def test_infinities_that_were_there_are_kept():
    w = torch.zeros(48, 64)
    w[0, 0] = -float("inf")
    after, _ = parse_pipeline(["cast-weights"]).run(make_program(w))
    assert after.constants["w"].encoding.decode()[0, 0] == -float("inf")


def test_compressed_integer_and_skipped_constants_stay():
    program = make_program()
    program.constants["ids"] = Constant("ids", Dense(torch.arange(512)))
    quantized, _ = parse_pipeline(["quantize-weights{bits=4,group=32}"]).run(program)
    once = parse_pass("cast-weights{min_numel=0}").apply(quantized)
    assert once.errors.keys() == {"bias"}
    assert once.program.constants["w"] is quantized.constants["w"]
    skipped = parse_pass("cast-weights{skip=['*']}").apply(program)
    assert not skipped.modified
    assert skipped.notes == ("nothing to do: no constant was cast",)


def test_a_second_run_finds_nothing_to_do():
    once = parse_pass("cast-weights").apply(make_program()).program
    twice = parse_pass("cast-weights").apply(once)
    assert not twice.modified and not differs(once, twice.program)


def test_a_mask_stays_and_what_is_under_it_is_cast():
    program = make_program()
    w = program.constants["w"].encoding.decode()
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    hidden = w.masked_fill(~mask, 1e30)  # not stored, so no matter
    program.constants["w"] = Constant("w", Sparse("two_four", mask, Dense(hidden)))
    after, (record,) = parse_pipeline(["cast-weights"]).run(program)
    stored = after.constants["w"].encoding
    assert stored.describe() == "sparse(two_four, dense(f16))"
    assert stored.nbytes == 48 * 64 // 2 * 2 + 48 * 64 // 12
    assert torch.equal(stored.decode(), (w * mask).half().float())
    assert 0 < record.errors["w"] <= 2**-11
