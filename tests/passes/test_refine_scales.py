"""refine-scales: least squares for codes as they are, whatever stands around them."""

from __future__ import annotations

import pytest
import torch

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Constant, Outliers, Sparse
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.gptq import Hessian, inverse_factor
from edgec.transform import differs
from tests.passes.test_gptq import calls, deviation, product, tied_program, two_layers

NEAREST = "quantize-weights{bits=3,group=16}"


def run(program, *specs, data):
    """The program and the record of each pass."""
    given = data if isinstance(data, dict) else {"main": data}
    return parse_pipeline(specs).run(program, calibration=given)


@pytest.mark.parametrize("op", ["linear", "conv", "matmul, right", "matmul, left"])
def test_outputs_are_nearer_and_codes_stay(op):
    program, data = product(op)
    nearest, _ = run(program, NEAREST, data=data)
    after, (_, record) = run(program, NEAREST, "refine-scales", data=data)
    old, new = (p.constants["w"].encoding for p in (nearest, after))
    assert torch.equal(old.codes, new.codes) and old.describe() == new.describe()
    assert not torch.equal(old.scale, new.scale)
    assert deviation(program, after, data) < deviation(program, nearest, data)
    assert len(record.notes) == 1 and record.notes[0].startswith("squared errors of outputs: ")


def test_the_scale_of_a_whole_row_is_that_of_its_least_squares():
    program, data = product("linear")
    after, _ = run(program, "quantize-weights{bits=3,scale_dtype=f32}", "refine-scales", data=data)
    e, w = after.constants["w"].encoding, program.constants["w"].encoding.decode().double()
    hessian = Hessian(32)
    for (x,) in data:
        hessian.add(x)
    damped = inverse_factor(hessian.matrix, 0.01)[0]
    q = e.codes.double()
    want = ((w @ damped) * q).sum(1) / ((q @ damped) * q).sum(1)
    torch.testing.assert_close(e.scale[:, 0].double(), want, rtol=1e-5, atol=0)


def test_masks_and_outliers_stay():
    program, data = two_layers(), calls(8, 64, count=20)
    w = program.constants["first"].encoding
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    program.constants["first"] = Constant("first", Sparse("two_four", mask, w))
    specs = ["quantize-weights{bits=3,group=16,outliers=0.01}", "refine-scales{target=original}"]
    nearest, _ = run(program, specs[0], data=data)
    after, _ = run(program, *specs, data=data)
    old, new = (p.constants["first"].encoding for p in (nearest, after))
    assert isinstance(new, Sparse) and isinstance(new.values, Outliers)
    assert isinstance(new.values.base, Affine) and torch.equal(new.mask, mask)
    assert torch.equal(new.values.positions, old.values.positions)
    assert torch.equal(new.values.values, old.values.values)
    assert deviation(program, after, data) < deviation(program, nearest, data)


def test_original_outputs_are_those_before_compression():
    program, data = two_layers(), calls(8, 64, count=20)
    specs = ("quantize-weights{bits=3,scale_dtype=f32}", "refine-scales{target=original}")
    after, _ = run(program, *specs, data=data)
    hessian = Hessian(48)
    pairs = (Interpreter(p) for p in (after, program))
    now, before = (inputs_of_second(p, data) for p in pairs)
    for x, original in zip(now, before, strict=True):
        hessian.add(x, original)
    e, w = after.constants["second"].encoding, program.constants["second"].encoding.decode()
    target = hessian.corrected(w).double()
    damped = inverse_factor(hessian.matrix, 0.01)[0]
    q = e.codes.double()
    want = ((target @ damped) * q).sum(1) / ((q @ damped) * q).sum(1)
    close = torch.isclose(e.scale[:, 0].double(), want, rtol=1e-4, atol=0)
    assert float(close.double().mean()) > 0.9  # rows whose own scale is better keep it


def inputs_of_second(interpreter: Interpreter, data) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def keep(node, results):
        known[node.outputs[0].name] = results[0]
        if "@second" in node.inputs:
            found.append(known[node.inputs[0]])

    for call in data:
        known: dict[str, torch.Tensor] = {}
        interpreter.run(call, trace=keep)
    return found


def test_original_outputs_need_the_same_nodes():
    program, data = two_layers(), calls(8, 64, count=20)
    pruned = "prune-neurons{ratio=0.25,score=magnitude,refit=False}"
    specs = (pruned, NEAREST, "refine-scales{target=original}")
    with pytest.raises(PassError, match="target=original, and main has other nodes"):
        run(program, *specs, data=data)


def test_tables_and_weights_without_affine_codes_are_left():
    data = {"encode": [[torch.randint(0, 50, (4, 5))]], "decode": calls(16, 64)}
    before, _ = run(tied_program(), "quantize-weights{bits=3,group=16,include=[table]}", data=data)
    after, (record,) = run(before, "refine-scales", data=data)
    assert not differs(before, after)
    assert record.notes == ("nothing to do: no weight was refined",)


def test_best_scales_are_told_and_stay():
    program, data = two_layers(), calls(8, 64, count=20)
    specs = [NEAREST, "refine-scales", "refine-scales"]
    _, records = run(program, *specs, data=data)
    assert records[2].errors.keys() <= {"second"}  # whose inputs have changed since
    assert any("@first: no better scales for its 4 groups" in n for n in records[2].notes)


def test_mistakes_are_told():
    with pytest.raises(PassError, match=r"damping=0\.0, need 0 < damping"):
        parse_pass("refine-scales{damping=0.0}")
    with pytest.raises(PassError, match="no data"):
        parse_pipeline([NEAREST, "refine-scales"]).run(two_layers())
    text = "refine-scales{target=original}"
    assert str(parse_pass(text)) == text
