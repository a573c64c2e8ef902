"""sparsify-weights: which weights go, what is stored, what later passes do to it, what is told."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Constant, Dense, Program, Sparse
from edgec.ir.encodings.rows import to_rows
from edgec.ops.conv import Conv
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.sparsegpt import sparsegpt
from edgec.passes.numerics.sparsity import Rule
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.passes.test_gptq import (
    BATCH,
    builder,
    calls,
    deviation,
    grouped_and_recurrent,
    ids,
    product,
    program_of,
    tensor,
    tied_program,
    two_layers,
)


def apply(program: Program, *specs: str, data=None):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    given = data if isinstance(data, dict) or data is None else {"main": data}
    return parse_pipeline(specs).run(program, calibration=given)


def sparse(program: Program, name: str) -> Sparse:
    stored = program.constants[name].encoding
    assert isinstance(stored, Sparse)
    return stored


# ------------------------------------------------------------------ which weights go
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_the_least_of_each_tensor_go_and_the_others_stay_bit_for_bit(ratio):
    program = two_layers()
    after, (record,) = apply(program, f"sparsify-weights{{ratio={ratio}}}")
    for name in ("first", "second"):
        w, e = program.constants[name].encoding.decode(), sparse(after, name)
        assert int((~e.mask).sum()) == int(ratio * w.numel())
        assert float(w[~e.mask].abs().max()) <= float(w[e.mask].abs().min())
        assert torch.equal(e.decode(), w * e.mask)
        lost, power = float(w[~e.mask].square().sum()), float(w.square().sum())
        assert record.errors[name] == pytest.approx((lost / power) ** 0.5)
    assert record.notes == ()


def test_rows_and_the_whole_program_can_compete():
    program = two_layers()
    program.constants["second"] = Constant("second", Dense(tensor(32, 48, seed=1) * 3))
    by_row, _ = apply(program, "sparsify-weights{ratio=0.25,among=row}")
    assert sparse(by_row, "first").mask.sum(1).tolist() == [48] * 48
    after, _ = apply(program, "sparsify-weights{among=program}")
    weights = [program.constants[n].encoding.decode() for n in ("first", "second")]
    masks = [sparse(after, n).mask for n in ("first", "second")]
    limit = torch.cat([w.abs().reshape(-1) for w in weights]).median()
    assert all(torch.equal(m, w.abs() > limit) for w, m in zip(weights, masks, strict=True))
    assert float(masks[0].float().mean()) < 0.4 < 0.6 < float(masks[1].float().mean())


@pytest.mark.parametrize("op", ["linear", "conv", "matmul, right", "matmul, left"])
@pytest.mark.parametrize("score", ["magnitude", "wanda", "sparsegpt"])
def test_two_of_four_inputs_of_every_product(op, score):
    program, data = product(op)
    after, (record,) = apply(
        program, f"sparsify-weights{{score={score},pattern=two_four}}", data=data
    )
    e = sparse(after, "w")
    assert e.pattern == "two_four" and record.notes == ()
    assert bool((to_rows(e.mask, e.axis).unflatten(1, (-1, 4)).sum(-1) == 2).all())


@pytest.mark.parametrize("op", ["linear", "conv", "matmul, right", "matmul, left"])
@pytest.mark.parametrize("pattern", ["unstructured", "two_four"])
def test_outputs_change_less_the_more_a_score_knows(op, pattern):
    program, data = product(op)
    lost = [
        deviation(
            program,
            apply(program, f"sparsify-weights{{{o},pattern={pattern}}}", data=data)[0],
            data,
        )
        for o in ("score=magnitude", "score=sparsegpt", "score=sparsegpt,refit=20,damping=0.01")
    ]
    assert lost[0] > lost[1] > lost[2]


def test_a_layer_gets_the_inputs_of_sparse_layers():
    program, data = two_layers(), calls(8, 64)
    after, _ = apply(program, "sparsify-weights{score=sparsegpt,pattern=two_four}", data=data)
    hessian = Hessian(48)
    for (x,) in data:
        first = sparse(after, "first").decode()
        hessian.add(torch.nn.functional.gelu(torch.nn.functional.linear(x, first)))
    mask, values = sparsegpt(tensor(32, 48, seed=1), hessian.matrix, Rule("two_four"), 0.1)
    assert torch.equal(sparse(after, "second").mask, mask)
    assert torch.equal(sparse(after, "second").decode(), values)


def test_wanda_keeps_weights_bit_for_bit_unless_they_are_fitted():
    program, data = two_layers(), calls(8, 64)
    plain, _ = apply(program, "sparsify-weights{score=wanda}", data=data)
    w, e = tensor(48, 64), sparse(plain, "first")
    assert torch.equal(e.decode(), w * e.mask)
    norms = torch.cat([x for (x,) in data]).norm(dim=0)
    for scores, kept in zip(w.abs() * norms, e.mask, strict=True):
        assert float(scores[~kept].max()) < float(scores[kept].min())
    refit, _ = apply(program, "sparsify-weights{score=wanda,refit=10}", data=data)
    assert torch.equal(sparse(refit, "first").mask, e.mask)
    only = ("sparsify-weights{score=wanda,include=[first]}",)
    fitted = ("sparsify-weights{score=wanda,refit=10,include=[first]}",)
    lost = [deviation(program, apply(program, *s, data=data)[0], data) for s in (only, fitted)]
    assert lost[1] < lost[0]


def test_what_no_data_reach_goes_by_magnitude_and_is_told():
    program = tied_program()
    data = {"encode": ids(), "decode": calls(16, 64)}
    after, (record,) = apply(program, "sparsify-weights{score=sparsegpt}", data=data)
    assert record.notes == ("@table: no product with calibration data; by magnitude",)
    by_magnitude, _ = apply(program, "sparsify-weights")
    same = [
        n
        for n in ("shared", "table", "w")
        if torch.equal(sparse(after, n).mask, sparse(by_magnitude, n).mask)
    ]
    assert same == ["table"]
    _, (record,) = apply(program, "sparsify-weights{tables=leave}")
    assert record.errors.keys() == {"w"}
    assert record.notes == ("tables, left as they are: @shared, @table",)


def test_convolutions_in_groups_and_recurrent_layers_go_by_magnitude():
    program = grouped_and_recurrent()
    spec = "sparsify-weights{score=wanda,min_numel=1,pattern=two_four}"
    after, (record,) = apply(program, spec, data=calls(2, 16, 24))
    assert record.notes == tuple(
        f"@{n}: no product with calibration data; by magnitude" for n in ("grouped", "ih", "hh")
    )
    assert not differs(after, apply(program, "sparsify-weights{min_numel=1,pattern=two_four}")[0])


# ------------------------------------------------------------------ bytes
def wide(bits: int = 0) -> Program:
    """One linear with w f32[96, 192], perhaps quantized."""
    b = builder(x=(BATCH, 192))
    program = program_of(b, b.linear(b.input("x"), b.constant(tensor(96, 192), "w"), None))
    return apply(program, f"quantize-weights{{bits={bits},group=32}}")[0] if bits else program


COUNT, SCALES = 96 * 192, 96 * 6 * 2
FILES = [
    ("sparsify-weights", 0, COUNT // 2 * 4 + COUNT // 8),
    ("sparsify-weights{ratio=0.75}", 0, COUNT // 4 * 4 + COUNT // 8),
    ("sparsify-weights{pattern=two_four}", 0, COUNT // 2 * 4 + COUNT // 12),
    ("sparsify-weights", 4, COUNT // 4 + COUNT // 8 + SCALES),
    ("sparsify-weights{ratio=0.75}", 4, COUNT // 8 + COUNT // 8 + SCALES),
    ("sparsify-weights{ratio=0.9}", 4, -(-(COUNT - 16588) * 4 // 8) + COUNT // 8 + SCALES),
    ("sparsify-weights{pattern=two_four}", 4, COUNT // 4 + COUNT // 12 + SCALES),
    ("sparsify-weights{pattern=two_four}", 3, COUNT * 3 // 16 + COUNT // 12 + SCALES),
]


@pytest.mark.parametrize(("spec", "bits", "nbytes"), FILES)
def test_bytes_are_a_formula_in_memory_and_in_the_file(spec, bits, nbytes, tmp_path: Path):
    """Sparse before quantized: the same bytes as the other way round, less than dense."""
    quantize = (f"quantize-weights{{bits={bits},group=32}}",) if bits else ()
    after, records = apply(wide(), spec, *quantize)
    assert sparse(after, "w").nbytes == after.nbytes == records[-1].bytes_after == nbytes
    assert nbytes < wide(bits).nbytes
    if bits:
        other, _ = apply(wide(bits), spec)
        assert other.nbytes == nbytes
        assert isinstance(sparse(other, "w").values, Affine)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    held = sum(len(t.raw_data) for t in model.graph.initializer if t.name.startswith("@"))
    assert held == nbytes
    x = torch.randn(3, 192, generator=torch.Generator().manual_seed(1))
    (got,) = Onnx.load(tmp_path).run("main", [x])
    (want,) = Interpreter(after, compute=torch.float64).run([x])
    eps = torch.finfo(torch.float32).eps
    assert float((got - want).abs().max()) <= 4 * eps * 192**0.5 * float(want.abs().max())


@pytest.mark.parametrize(
    ("bits", "ratio", "pays"),
    [(0, 0.03, False), (0, 0.04, True), (4, 0.25, False), (4, 0.26, True), (2, 0.5, False)],
)
def test_a_mask_that_takes_more_than_it_saves_is_not_stored(bits, ratio, pays):
    """Break-even: ratio = 1 / bits."""
    program = wide(bits)
    after, (record,) = apply(program, f"sparsify-weights{{ratio={ratio}}}")
    assert record.modified == pays == (after.nbytes < program.nbytes)
    if not pays:
        assert record.notes[0].startswith("@w: ") and "with a mask" in record.notes[0]
        assert record.notes[1:] == ("nothing to do: no weight was sparsified",)


def test_a_mask_that_does_not_pay_any_more_is_told():
    """It stays: what follows may count on it."""
    for ratio, notes in [(0.2, 1), (0.3, 0)]:
        specs = f"sparsify-weights{{ratio={ratio}}}", "quantize-weights{bits=4,group=32}"
        after, records = apply(wide(), *specs)
        e = sparse(after, "w")
        assert len(records[-1].notes) == notes == (e.nbytes >= e.values.nbytes)
        told = f"@w: {e.nbytes} bytes with its mask, {e.values.nbytes} without; sparse all the same"
        assert records[-1].notes == (told,) * notes


# ------------------------------------------------------------------ other passes
@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("quantize-weights{bits=4,group=16}", "affine(bits=4, group=16, scale=bf16)"),
        ("gptq{bits=4,group=16}", "affine(bits=4, group=16, scale=bf16)"),
        ("cast-weights", "dense(f16)"),
    ],
)
@pytest.mark.parametrize("pattern", ["unstructured", "two_four"])
def test_the_mask_survives_later_passes(spec, shown, pattern):
    program, data = two_layers(), calls(8, 64)
    first = f"sparsify-weights{{score=sparsegpt,pattern={pattern}}}"
    before, _ = apply(program, first, data=data)
    after, records = apply(program, first, spec, data=data)
    name = "two_four" if pattern == "two_four" else "bitmask"
    for w in ("first", "second"):
        assert torch.equal(sparse(after, w).mask, sparse(before, w).mask)
        assert sparse(after, w).describe() == f"sparse({name}, {shown})"
        assert not sparse(after, w).decode()[~sparse(after, w).mask].any()
    assert records[-1].errors.keys() == {"first", "second"}


def test_a_mask_within_a_mask():
    program, data = two_layers(), calls(8, 64)
    for options in ("", "score=wanda,", "score=sparsegpt,", "among=program,"):
        first, _ = apply(program, "sparsify-weights{ratio=0.3}")
        after, _ = apply(first, f"sparsify-weights{{{options}ratio=0.6}}", data=data)
        for name in ("first", "second"):
            assert not (sparse(after, name).mask & ~sparse(first, name).mask).any()
        assert after.nbytes < first.nbytes


def test_a_second_run_finds_nothing_to_do():
    for spec in ("sparsify-weights", "sparsify-weights{pattern=two_four}"):
        once, _ = apply(two_layers(), spec)
        twice, (record,) = apply(once, spec)
        assert not differs(once, twice)
        assert record.notes[-1] == "nothing to do: no weight was sparsified"
        assert record.notes[0].startswith("@first: sparse already; left sparse(")


# ------------------------------------------------------------------ what is left, contracts
def test_misfits_are_told_or_refused():
    b = builder(x=(BATCH, 3, 12, 12))
    conv = Conv(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    y = b.emit(conv, b.input("x"), b.constant(tensor(16, 3, 3, 3), "w"), None)
    program = program_of(b, y)
    _, (record,) = apply(program, "sparsify-weights{pattern=two_four}")
    assert not record.modified
    assert record.notes == (
        "@w: K=27; need a multiple of 4 for two_four; left dense",
        "nothing to do: no weight was sparsified",
    )
    with pytest.raises(PassError, match=r"@w: K=27.*set misfits, pattern or skip"):
        apply(program, "sparsify-weights{pattern=two_four,misfits=fail}")
    assert apply(program, "sparsify-weights{misfits=fail}")[1][0].modified


def test_what_is_left_is_told():
    b = builder(x=(BATCH, 64))
    broken = tensor(48, 64)
    broken[0, 0] = float("nan")
    x = b.linear(b.input("x"), b.constant(broken, "broken"), None)
    program = program_of(b, b.linear(x, b.constant(tensor(2, 48), "small"), None))
    for among in ("tensor", "program"):
        _, (record,) = apply(program, f"sparsify-weights{{among={among},skip=[nothing]}}")
        assert record.notes == (
            "pattern 'nothing' matches no constant",
            "@broken: NaN or infinite weights; need finite ones; left dense",
            "@small: 96 weights; need 256 (min_numel); left dense",
            "nothing to do: no weight was sparsified",
        )


def test_inputs_too_great_to_square_are_told():
    data = [[torch.full((2, 64), 1e30)]]
    after, (record,) = apply(two_layers(), "sparsify-weights{score=wanda}", data=data)
    assert record.notes[0] == "@first: inputs with infinite squares; by magnitude"
    assert differs(after, two_layers())


def test_equal_weights_and_zeros():
    b = builder(x=(BATCH, 64))
    x = b.linear(b.input("x"), b.constant(torch.ones(48, 64), "ones"), None)
    program = program_of(b, b.linear(x, b.constant(torch.zeros(48, 48), "zeros"), None))
    for spec in ("sparsify-weights", "sparsify-weights{among=program}"):
        after, _ = apply(program, spec)
        kept = sum(sparse(after, n).kept_count for n in ("ones", "zeros") if n in after.constants)
        assert kept == 48 * 64 + 48 * 48 - int(0.5 * (48 * 64 + 48 * 48))


def test_what_is_left_is_not_told_twice():
    b = builder(x=(BATCH, 16, 24))
    groups = Conv(stride=(1,), padding=((1, 1),), dilation=(1,), groups=4)
    x = b.emit(groups, b.input("x"), b.constant(tensor(16, 4, 3), "grouped"), None)
    program = program_of(b, x)
    for spec in ("sparsify-weights{score=wanda}", "sparsegpt"):
        _, (record,) = apply(program, spec, data=calls(2, 16, 24))
        assert record.notes == (
            "@grouped: 192 weights; need 256 (min_numel); left dense",
            "nothing to do: no weight was sparsified",
        )


def test_what_competes_in_the_program_can_be_fitted():
    program, data = two_layers(), calls(8, 64)
    plain, _ = apply(program, "sparsify-weights{among=program}")
    after, _ = apply(program, "sparsify-weights{among=program,refit=10}", data=data)
    for name in ("first", "second"):
        assert torch.equal(sparse(after, name).mask, sparse(plain, name).mask)
    assert deviation(program, after, data) < deviation(program, plain, data)


def test_a_bit_mask_of_two_of_four_becomes_one():
    program = two_layers()
    by_pattern, _ = apply(program, "sparsify-weights{pattern=two_four}")
    for name in ("first", "second"):
        mask, w = sparse(by_pattern, name).mask, program.constants[name].encoding
        program.constants[name] = Constant(name, Sparse("bitmask", mask, w))
    after, _ = apply(program, "sparsify-weights{pattern=two_four}")
    assert not differs(after, by_pattern)


def test_results_are_the_same_every_time_and_the_argument_stays():
    program, data = two_layers(), calls(4, 64)
    digests = [c.encoding.digest for c in program.constants.values()]
    spec = "sparsify-weights{score=sparsegpt,refit=5}"
    first, second = (apply(program, spec, data=data)[0] for _ in range(2))
    assert not differs(first, second)
    assert [c.encoding.digest for c in program.constants.values()] == digests


def test_data_are_needed_only_where_they_matter():
    assert not parse_pass("sparsify-weights").needs_calibration
    for options in ("score=wanda", "score=sparsegpt", "refit=1"):
        text = f"sparsify-weights{{{options}}}"
        assert parse_pass(text).needs_calibration and str(parse_pass(text)) == text
        with pytest.raises(PassError, match="no data"):
            apply(two_layers(), text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ratio=0.0", "ratio=0.0, need 0 < ratio < 1"),
        ("ratio=1.0,min_numel=-1", "min_numel=-1, need min_numel >= 0; ratio=1.0, need 0 < ratio"),
        ("ratio=nan", "ratio=nan, need 0 < ratio < 1"),
        ("ratio=0.6,pattern=two_four", "ratio=0.6 with pattern=two_four, need ratio=0.5"),
        ("score=wanda,among=program", "among=program with score=wanda and pattern=unstructured"),
        ("among=program,pattern=two_four", "among=program with score=magnitude and pattern=two"),
        ("refit=-1", "refit=-1, need refit >= 0"),
        ("damping=0.0", "damping=0.0, need 0 < damping < 100"),
        ("score=taylor", "score=taylor, need magnitude or wanda or sparsegpt"),
        ("pattern=one_four", "pattern=one_four, need"),
        ("rate=0.5", "unknown rate.*did you mean ratio"),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(PassError, match=message):
        parse_pass(f"sparsify-weights{{{options}}}")
