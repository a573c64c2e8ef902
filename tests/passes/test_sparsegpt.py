"""sparsegpt: masks and codes together, what is stored, and how it compares with two passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine
from edgec.ir.encodings.rows import to_rows
from edgec.ops.conv import Conv
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.sparsegpt import sparsegpt_rounded
from edgec.passes.numerics.sparsity import Rule
from edgec.passes.sparsegpt import SparseGpt
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.passes.test_gptq import (
    BATCH,
    builder,
    calls,
    deviation,
    ids,
    product,
    program_of,
    tensor,
    tied_program,
    two_layers,
)
from tests.passes.test_sparsify_weights import apply, sparse

INT4 = "pattern=two_four,bits=4,group=16"


def test_masks_and_codes_are_stored_together():
    program, data = two_layers(), calls(8, 64)
    after, (record,) = apply(program, f"sparsegpt{{{INT4}}}", data=data)
    e = sparse(after, "first")
    assert e.describe() == "sparse(two_four, affine(bits=4, group=16, scale=bf16))"
    assert e.nbytes == 48 * 64 // 2 // 2 + 48 * 64 // 12 + 48 * 4 * 2
    dense, _ = apply(program, "gptq{bits=4,group=16}", data=data)
    assert e.nbytes < dense.constants["first"].encoding.nbytes
    assert record.errors.keys() == {"first", "second"} and record.notes == ()


def test_a_layer_gets_the_inputs_of_the_layers_before_it_as_stored():
    program, data = two_layers(), calls(8, 64)
    after, _ = apply(program, f"sparsegpt{{{INT4},refit=5,sweeps=1}}", data=data)
    first, hessian = sparse(after, "first").decode(), Hessian(48)
    for (x,) in data:
        hessian.add(torch.nn.functional.gelu(torch.nn.functional.linear(x, first)))
    grid = SparseGpt().grid(4, 16)
    mask, (codes, scale, _) = sparsegpt_rounded(
        tensor(32, 48, seed=1), hessian.matrix, Rule("two_four"), grid, 0.1, 5, 1
    )
    e = sparse(after, "second")
    assert isinstance(e.values, Affine) and torch.equal(e.mask, mask)
    assert torch.equal(e.values.codes, codes) and torch.equal(e.values.scale, scale)


@pytest.mark.parametrize("op", ["linear", "conv", "matmul, right", "matmul, left"])
@pytest.mark.parametrize("pattern", ["unstructured", "two_four"])
def test_together_loses_less_than_magnitude_and_rounding_to_nearest(op, pattern, tmp_path: Path):
    program, data = product(op)
    form = f"pattern={pattern}"
    after, (record,) = apply(program, f"sparsegpt{{{form},bits=4,group=16}}", data=data)
    plain = (f"sparsify-weights{{{form}}}", "quantize-weights{bits=4,group=16}")
    other, _ = apply(program, *plain, data=data)
    assert record.notes == () and after.nbytes == other.nbytes
    assert deviation(program, after, data) < deviation(program, other, data)
    e = sparse(after, "w")
    assert int((~to_rows(e.mask, e.axis)).sum()) == e.numel // 2
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    (got,) = Onnx.load(tmp_path).run("main", data[0])
    (want,) = Interpreter(after, compute=torch.float64).run(data[0])
    eps = torch.finfo(torch.float32).eps
    assert float((got - want).abs().max()) <= 4 * eps * 64**0.5 * float(want.abs().max())


@pytest.mark.parametrize("refit", [0, 20])
def test_one_pass_loses_no_more_than_two(refit):
    """Of a single layer's output, where both see the same inputs."""
    program, data = two_layers(), calls(8, 64, count=20)
    only = "include=[first]"
    fit = f"{only},refit={refit},pattern=two_four,damping=0.1"
    together, _ = apply(program, f"sparsegpt{{{fit},bits=4,group=16}}", data=data)
    two = (
        f"sparsify-weights{{score=sparsegpt,{fit}}}",
        f"gptq{{{only},bits=4,group=16,damping=0.1}}",
    )
    one_by_one, _ = apply(program, *two, data=data)
    x = torch.cat([call[0] for call in data])
    want = x @ tensor(48, 64).T
    lost = [
        float((x @ sparse(p, "first").decode().T - want).square().sum())
        for p in (together, one_by_one)
    ]
    assert lost[0] <= lost[1] * (1 + 1e-5)


def test_what_no_data_reach_is_rounded_to_nearest_and_told():
    program, data = tied_program(), {"encode": ids(), "decode": calls(16, 64)}
    after, (record,) = apply(program, f"sparsegpt{{{INT4},embeddings=3}}", data=data)
    otherwise = "by magnitude, rounded to nearest"
    assert record.notes == (f"@table: no product with calibration data; {otherwise}",)
    assert "bits=3" in sparse(after, "table").describe()
    plain = ("sparsify-weights{pattern=two_four}", "quantize-weights{bits=3}")
    other, _ = apply(program, *plain, data=data)
    assert torch.equal(sparse(after, "table").decode(), sparse(other, "table").decode())
    _, (record,) = apply(program, f"sparsegpt{{{INT4},tables=leave}}", data=data)
    assert record.errors.keys() == {"w"}


def test_zeros_of_a_mask_stay():
    program, data = two_layers(), calls(8, 64)
    first, _ = apply(program, "sparsify-weights{ratio=0.4}", data=data)
    after, (record,) = apply(first, "sparsegpt{ratio=0.6,bits=4,group=16}", data=data)
    for name in ("first", "second"):
        assert not (sparse(after, name).mask & ~sparse(first, name).mask).any()
    assert record.notes == ()


def test_misfits_of_groups_and_of_fours():
    program, data = two_layers(), calls(4, 64)
    wide = f"sparsegpt{{{INT4.replace('16', '64')}"
    after, (record,) = apply(program, wide + "}", data=data)
    assert record.notes == ("@second: K=48; need a multiple of group=64; left dense",)
    after, (record,) = apply(program, wide + ",misfits=rows}", data=data)
    assert record.notes == ("@second: K=48; need a multiple of group=64; one scale per row",)
    assert "group" not in sparse(after, "second").describe()
    b = builder(x=(BATCH, 3, 12, 12))
    conv = Conv(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    y = b.emit(conv, b.input("x"), b.constant(tensor(16, 3, 3, 3), "w"), None)
    odd, data = program_of(b, y), calls(2, 3, 12, 12)
    for misfits in ("leave", "rows"):
        spec = f"sparsegpt{{pattern=two_four,misfits={misfits}}}"
        _, (record,) = apply(odd, spec, data=data)
        assert record.notes[0] == "@w: K=27; need a multiple of 4 for two_four; left dense"
        assert not record.modified
    with pytest.raises(PassError, match="@w: K=27; need a multiple of 4"):
        apply(odd, "sparsegpt{pattern=two_four,misfits=fail}", data=data)


def test_a_mask_that_takes_more_than_it_saves_is_not_stored():
    program, data = two_layers(), calls(4, 64)
    _, (record,) = apply(program, "sparsegpt{ratio=0.25,bits=4,group=16}", data=data)
    assert not record.modified
    assert record.notes[0] == "@first: 1920 bytes with a mask, 1920 without; left dense"
    _, (record,) = apply(program, "sparsegpt{ratio=0.26,bits=4,group=16}", data=data)
    assert record.errors.keys() == {"first", "second"}


def test_inputs_too_great_to_square_are_told():
    data = [[torch.full((2, 64), 1e30)]]
    _, (record,) = apply(two_layers(), f"sparsegpt{{{INT4}}}", data=data)
    told = "@first: inputs with infinite squares; by magnitude, rounded to nearest"
    assert record.notes[0] == told


def test_results_are_the_same_every_time_and_a_second_run_does_nothing():
    program, data = two_layers(), calls(4, 64)
    spec = f"sparsegpt{{{INT4}}}"
    first, second = (apply(program, spec, data=data)[0] for _ in range(2))
    assert not differs(first, second)
    twice, (record,) = apply(first, spec, data=data)
    assert not differs(first, twice)
    assert record.notes == (
        "compressed already, left as they are: @first, @second",
        "nothing to do: no weight was sparsified",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("bits=9,ratio=0.0", "bits=9, need 2 <= bits <= 8; ratio=0.0, need 0 < ratio < 1"),
        ("ratio=0.7,pattern=two_four", "need ratio=0.5"),
        ("sweeps=-1", "sweeps=-1, need 0, or more with refit"),
        ("sweeps=1,refit=0", "sweeps=1, need 0, or more with refit"),
        ("damping=nan", "need 0 < damping < 100"),
        ("outliers=0.001", "outliers=0.001, need 0 under a mask"),
        ("among=program", "among=program, need row or tensor"),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(PassError, match=message):
        parse_pass(f"sparsegpt{{{options}}}")


def test_data_are_needed():
    assert str(parse_pass(f"sparsegpt{{{INT4}}}")) == "sparsegpt{bits=4,group=16,pattern=two_four}"
    with pytest.raises(PassError, match="no data"):
        parse_pipeline(["sparsegpt"]).run(two_layers())
