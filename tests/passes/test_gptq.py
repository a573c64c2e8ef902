"""gptq: which weights it rounds with which inputs, in which order, and what it reports."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    Dense,
    DType,
    Program,
    Range,
    Sparse,
    TensorType,
    symbol,
)
from edgec.ir.encodings.rows import to_rows
from edgec.ops.conv import Conv
from edgec.ops.recurrent import Lstm
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.gptq import Gptq
from edgec.passes.inputs import inputs, is_product
from edgec.passes.numerics.gptq import Hessian, gptq
from edgec.passes.quantize_weights import QuantizeWeights
from edgec.passes.stream import visits
from edgec.passes.weights import find_weights
from edgec.transform import differs

BATCH = symbol("batch")


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def builder(name="main", constants=None, **inputs):
    typed = [(n, TensorType(DType.I64 if n == "ids" else DType.F32, s)) for n, s in inputs.items()]
    return Builder.new(name, typed, constants, {"batch": Range(1, 64)})


def program_of(b: Builder, *outputs) -> Program:
    graph = b.finish(outputs)
    return Program({graph.name: graph}, graph.constants).verify()


def calls(*shape, count=20):
    """Inputs whose elements along the last axis are correlated."""
    mix = tensor(shape[-1], shape[-1], seed=99) / shape[-1] ** 0.5 + 0.4
    return [[tensor(*shape, seed=i) @ mix] for i in range(count)]


def apply(program: Program, calibration, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    options = {"bits": 3, "group": 16} | options
    data = calibration if isinstance(calibration, dict) else {"main": calibration}
    after, (record,) = parse_pipeline([Gptq(**options)]).run(program, calibration=data)
    return after, record


def nearest(program: Program, **options):
    options = {"bits": 3, "group": 16} | options
    return parse_pipeline([QuantizeWeights(**options)]).run(program)[0]


def deviation(program: Program, got: Program, data, function="main"):
    """Squared difference of the outputs, over all calls."""
    return sum(
        float((a - b).square().sum())
        for call in data
        for a, b in zip(
            Interpreter(program).run(call, function),
            Interpreter(got).run(call, function),
            strict=True,
        )
    )


def codes(program: Program, name: str) -> torch.Tensor:
    stored = program.constants[name].encoding
    assert isinstance(stored, Affine)
    return stored.codes


def two_layers() -> Program:
    b = builder(x=(BATCH, 64))
    hidden = b.gelu(b.linear(b.input("x"), b.constant(tensor(48, 64), "first"), None))
    return program_of(b, b.linear(hidden, b.constant(tensor(32, 48, seed=1), "second"), None))


# ------------------------------------------------------------------ which inputs
def test_outputs_are_nearer_than_by_rounding_to_nearest():
    program, data = two_layers(), calls(8, 64, count=20)
    after, record = apply(program, data)
    assert deviation(program, after, data) < 0.6 * deviation(program, nearest(program), data)
    assert record.errors.keys() == {"first", "second"} and record.notes == ()
    stored, want = after.constants["first"].encoding, nearest(program).constants["first"].encoding
    assert stored.describe() == want.describe() and stored.nbytes == want.nbytes


def test_a_layer_gets_the_inputs_of_rounded_layers():
    program, data = two_layers(), calls(8, 64)
    after, _ = apply(program, data)
    first = after.constants["first"].encoding.decode()
    hessian = Hessian(48)
    for (x,) in data:
        hessian.add(F.gelu(F.linear(x, first)))
    want = gptq(tensor(32, 48, seed=1), hessian.matrix, Gptq().grid(3, 16))
    assert torch.equal(codes(after, "second"), want[0])


def test_layers_can_make_up_for_the_errors_of_layers_before_them():
    program, data, others = two_layers(), calls(8, 64, count=60), calls(8, 64, count=80)[60:]
    lost = {
        target: deviation(program, apply(program, data, target=target)[0], others)
        for target in ("current", "original")
    }
    assert lost["original"] < lost["current"]


def test_sweeps_gain_on_the_calibration_data():
    program, data = two_layers(), calls(8, 64, count=20)
    first = [
        Interpreter(apply(program, data, sweeps=sweeps, include=("first",))[0]) for sweeps in (0, 3)
    ]
    x = torch.cat([call[0] for call in data])
    want = x @ tensor(48, 64).T
    lost = [float((x @ made.constant("first").T - want).square().sum()) for made in first]
    assert lost[1] < 0.97 * lost[0]


PRODUCTS = ["linear", "conv", "matmul, right", "matmul, left"]


def product(op: str) -> tuple[Program, list[list[torch.Tensor]]]:
    """A program of one product, and calls for it."""
    if op == "linear":
        b = builder(x=(BATCH, 5, 32))
        y = b.linear(b.input("x"), b.constant(tensor(48, 32), "w"), None)
        return program_of(b, y), calls(4, 5, 32)
    if op == "conv":
        b = builder(x=(BATCH, 4, 12, 12))
        conv = Conv(stride=(2, 1), padding=((1, 0), (2, 2)), dilation=(1, 2))
        y = b.emit(conv, b.input("x"), b.constant(tensor(16, 4, 4, 3), "w"), None)
        return program_of(b, y), calls(2, 4, 12, 12)
    if op == "matmul, right":
        b = builder(x=(BATCH, 3, 32))
        y = b.matmul(b.input("x"), b.constant(tensor(32, 48), "w"))
        return program_of(b, y), calls(4, 3, 32)
    b = builder(x=(BATCH, 32, 3))
    y = b.matmul(b.constant(tensor(48, 32), "w"), b.input("x"))
    return program_of(b, y), [[x.mT] for (x,) in calls(4, 3, 32)]


@pytest.mark.parametrize("op", PRODUCTS)
def test_a_product_is_its_inputs_times_the_rows_of_its_weight(op):
    program, data = product(op)
    weight = find_weights(program)["w"]
    rows = to_rows(program.constants["w"].encoding.decode(), weight.axis)
    for visit in visits(program, "main", data):
        assert is_product(visit.node, weight)
        for x, call in zip(inputs(visit, weight), data, strict=True):
            y = Interpreter(program).run(call)[0]
            features = {"conv": 1, "matmul, left": -2}.get(op, -1)
            want = y.movedim(features, -1).reshape(-1, rows.shape[0])
            torch.testing.assert_close(x @ rows.T, want)


@pytest.mark.parametrize("op", PRODUCTS)
def test_all_products_are_rounded_for_their_inputs(op):
    program, data = product(op)
    after, record = apply(program, data)
    assert record.notes == ()
    assert deviation(program, after, data) < deviation(program, nearest(program), data)


def test_kernels_of_other_sizes_over_the_same_image_have_their_own_inputs():
    b = builder(x=(BATCH, 4, 9, 9))
    conv = Conv(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))
    shapes = {"tall": (16, 4, 3, 1), "wide": (16, 4, 1, 3), "point": (16, 4, 1, 1)}
    layers = [
        b.emit(conv, b.input("x"), b.constant(tensor(*shape, seed=i), name), None)
        for i, (name, shape) in enumerate(shapes.items())
    ]
    program, data = program_of(b, *layers), calls(2, 4, 9, 9)
    after, _ = apply(program, data, group=0, min_numel=1)
    for i, (name, shape) in enumerate(shapes.items()):
        hessian = Hessian(shape[1] * shape[2] * shape[3])
        for (x,) in data:
            hessian.add(F.unfold(x, shape[2:]).mT)
        want = gptq(tensor(*shape, seed=i).flatten(1), hessian.matrix, Gptq().grid(3, 0))
        assert torch.equal(codes(after, name).flatten(1), want[0])


def test_a_weight_of_two_layers_is_rounded_once_for_the_inputs_of_both():
    b = builder(x=(BATCH, 64))
    w = b.constant(tensor(64, 64) / 8, "w")
    program = program_of(b, b.linear(b.tanh(b.linear(b.input("x"), w, None)), w, None))
    data = calls(8, 64)
    after, _ = apply(program, data)
    hessian = Hessian(64)
    for (x,) in data:
        hessian.add(x)
        hessian.add(F.linear(x, tensor(64, 64) / 8).tanh())
    want = gptq(tensor(64, 64) / 8, hessian.matrix, Gptq().grid(3, 16))
    assert torch.equal(codes(after, "w"), want[0])


def tied_program() -> Program:
    """An embedding that is the output layer of another function, and a layer of both functions."""
    constants: dict[str, Constant] = {}
    b = builder("encode", ids=(BATCH, 5), constants=constants)
    rows = b.gather(b.constant(tensor(100, 64), "shared"), b.input("ids"))
    b.constant(tensor(50, 64, seed=2), "table")
    rows = b.add(rows, b.gather("@table", b.input("ids")))
    encode = b.finish([b.linear(rows, b.constant(tensor(64, 64, seed=1), "w"), None)])
    b = builder("decode", x=(BATCH, 64), constants=constants)
    decode = b.finish([b.linear(b.linear(b.input("x"), "@w", None), "@shared", None)])
    return Program({"encode": encode, "decode": decode}, constants).verify()


def ids(count=6):
    generator = torch.Generator().manual_seed(0)
    return [[torch.randint(0, 50, (4, 5), generator=generator)] for _ in range(count)]


def test_a_tied_table_is_rounded_for_the_output_layer_and_others_to_nearest():
    program, data = tied_program(), calls(16, 64)
    after, record = apply(program, {"encode": ids(), "decode": data})
    want = nearest(program)
    assert torch.equal(codes(after, "table"), codes(want, "table"))
    assert not torch.equal(codes(after, "shared"), codes(want, "shared"))
    assert record.errors.keys() == {"shared", "table", "w"} and record.notes == ()
    hessian = Hessian(64)
    for (x,) in data:
        hessian.add(F.linear(x, tensor(64, 64, seed=1)))
    made = gptq(tensor(100, 64), hessian.matrix, Gptq().grid(3, 16))
    assert torch.equal(codes(after, "shared"), made[0])


def test_functions_without_calls_do_not_matter():
    program = tied_program()
    after, record = apply(program, {"encode": ids(), "decode": []})
    want = nearest(program)
    assert torch.equal(codes(after, "shared"), codes(want, "shared"))
    assert not torch.equal(codes(after, "w"), codes(want, "w"))
    assert record.notes == ("@shared: no product with calibration data; rounded to nearest",)


# ------------------------------------------------------------------ what is not rounded so
def grouped_and_recurrent() -> Program:
    """Weights that no one product meets: of a convolution in groups, and of an lstm."""
    b = builder(x=(BATCH, 16, 24))
    groups = Conv(stride=(1,), padding=((1, 1),), dilation=(1,), groups=4)
    x = b.emit(groups, b.input("x"), b.constant(tensor(16, 4, 3), "grouped"), None)
    state = b.full(shape=(1, BATCH, 8), value=0.0, dtype=DType.F32)
    op = Lstm(hidden=8, layers=1, bidirectional=False, bias=False)
    weights = [b.constant(tensor(32, k), n) for n, k in [("ih", 24), ("hh", 8)]]
    return program_of(b, b.emit(op, x, state, state, *weights)[0])


def test_what_has_no_single_product_is_rounded_to_nearest_and_told():
    program = grouped_and_recurrent()
    after, record = apply(program, calls(2, 16, 24), group=0, min_numel=1)
    assert record.notes == tuple(
        f"@{name}: no product with calibration data; rounded to nearest"
        for name in ("grouped", "ih", "hh")
    )
    assert not differs(after, nearest(program, group=0, min_numel=1))


def test_activations_too_great_to_square_are_told():
    program = two_layers()
    data = [[torch.full((2, 64), 1e30)]]
    after, record = apply(program, data)
    assert record.notes[0] == "@first: inputs with infinite squares; rounded to nearest"
    assert torch.equal(codes(after, "first"), codes(nearest(program), "first"))


def test_options_of_quantize_weights_mean_the_same():
    program, data = two_layers(), calls(4, 64)
    after, record = apply(program, data, group=64, skip=("nothing",))
    assert record.notes == (
        "pattern 'nothing' matches no constant",
        "@second: K=48; need a multiple of group=64; left dense",
    )
    assert isinstance(after.constants["second"].encoding, Dense)
    after, record = apply(program, data, group=64, misfits="rows")
    assert after.constants["second"].encoding.describe() == "affine(bits=3, scale=bf16)"
    with pytest.raises(PassError, match="@second: K=48"):
        apply(program, data, group=64, misfits="fail")
    after, record = apply(program, data, include=("second",), symmetric=False, scale_dtype="f16")
    assert record.errors.keys() == {"second"}
    shown = "affine(bits=3, group=16, zero points, scale=f16)"
    assert after.constants["second"].encoding.describe() == shown


def test_a_mask_stays_and_its_zeros_are_made_up_for():
    program, data = two_layers(), calls(8, 64)
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    dense = program.constants["first"].encoding
    program.constants["first"] = Constant("first", Sparse("two_four", mask, dense))
    after, _ = apply(program, data)
    stored = after.constants["first"].encoding
    assert isinstance(stored, Sparse) and torch.equal(stored.mask, mask)
    assert stored.describe() == "sparse(two_four, affine(bits=3, group=16, scale=bf16))"
    assert deviation(program, after, data) < deviation(program, nearest(program), data)


def test_a_second_run_finds_nothing_to_do():
    once, _ = apply(two_layers(), calls(4, 64))
    twice, record = apply(once, calls(4, 64))
    assert not differs(once, twice)
    assert record.notes == (
        "compressed already, left as they are: @first, @second",
        "nothing to do: no weight was quantized",
    )


# ------------------------------------------------------------------ contracts
def test_results_are_the_same_every_time_and_the_argument_stays():
    program, data = two_layers(), calls(4, 64)
    digests = [c.encoding.digest for c in program.constants.values()]
    for order in ("activation", "natural"):
        first, second = (apply(program, data, order=order)[0] for _ in range(2))
        assert not differs(first, second)
    assert [c.encoding.digest for c in program.constants.values()] == digests


def test_data_is_needed():
    with pytest.raises(PassError, match="no data"):
        parse_pipeline(["gptq{bits=4}"]).run(two_layers())
    with pytest.raises(PassError, match=r"no calibration data.*leave the pass out"):
        Gptq().apply(two_layers())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gptq{damping=0.0}", "damping=0.0, need 0 < damping < 100"),
        ("gptq{damping=nan}", "need 0 < damping"),
        ("gptq{sweeps=-1}", "sweeps=-1, need sweeps >= 0"),
        ("gptq{target=now}", "target=now, need current or original"),
        ("gptq{order=random}", "order=random, need activation or natural"),
        ("gptq{bits=9,group=-1}", "bits=9, need 2 <= bits <= 8; group=-1"),
    ],
)
def test_mistakes_are_told(text, message):
    with pytest.raises(PassError, match=message):
        parse_pass(text)


def test_few_data_are_told():
    _, record = apply(two_layers(), {"main": calls(5, 64, count=2)})
    assert (
        "calibration data are few: 10 rows for the 64 inputs of @first, and fewer rows than "
        "inputs for 2 weights in all; give more data"
    ) in record.notes
    _, record = apply(two_layers(), {"main": calls(32, 64, count=2)})
    assert not any("calibration data are few" in note for note in record.notes)


def test_a_weight_that_is_left_has_one_note():
    b = builder(x=(BATCH, 16, 24))
    groups = Conv(stride=(1,), padding=((1, 1),), dilation=(1,), groups=4)
    program = program_of(
        b, b.emit(groups, b.input("x"), b.constant(tensor(16, 4, 3), "small"), None)
    )
    _, record = apply(program, calls(2, 16, 24), group=0)
    said = [note for note in record.notes if note.startswith("@small")]
    assert said == ["@small: 192 weights; need 256 (min_numel); left dense"]
