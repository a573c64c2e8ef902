"""quantize-weights: what it encodes, with which bytes and errors, and what it reports as left."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

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
from edgec.ops.linear import Linear
from edgec.ops.recurrent import Lstm
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.quantize_weights import QuantizeWeights
from edgec.passes.weight_pass import relative_error
from edgec.transform import differs

BATCH = symbol("batch")


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def builder(name="main", dtype=DType.F32, constants=None, **inputs):
    typed = [(n, TensorType(DType.I64 if n == "ids" else dtype, s)) for n, s in inputs.items()]
    return Builder.new(name, typed, constants, {"batch": Range(1, 64)})


def program_of(b: Builder, *outputs) -> Program:
    graph = b.finish(outputs)
    return Program({graph.name: graph}, graph.constants).verify()


def linear_program(n=48, k=64, **changes) -> Program:
    b = builder(x=(BATCH, k))
    w = b.constant(changes.get("w", tensor(n, k)), "w")
    return program_of(b, b.linear(b.input("x"), w, b.constant(tensor(n), "bias")))


def tied_program() -> Program:
    """An embedding that is the output layer of another function as well."""
    constants: dict[str, Constant] = {}
    b = builder("encode", ids=(BATCH, 5), constants=constants)
    table = b.constant(tensor(100, 64), "shared")
    hidden = b.linear(
        b.gather(table, b.input("ids")), b.constant(tensor(64, 64, seed=1), "w"), None
    )
    encode = b.finish([hidden])
    b = builder("decode", x=(BATCH, 64), constants=constants)
    decode = b.finish([b.linear(b.input("x"), "@shared", None)])
    return Program({"encode": encode, "decode": decode}, constants).verify()


def apply(program: Program, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    step = QuantizeWeights(**options)
    after, (record,) = parse_pipeline([step]).run(program)
    return after, record


def encoding(program: Program, name: str):
    return program.constants[name].encoding


# ------------------------------------------------------------------ what is stored
def test_defaults_are_int8_per_row():
    program = linear_program()
    after, record = apply(program)
    e = encoding(after, "w")
    assert e.describe() == "affine(bits=8, scale=bf16)"
    assert e.nbytes == 48 * 64 + 48 * 2
    assert int(e.codes.min()) >= -127
    assert encoding(after, "bias") is encoding(program, "bias")
    assert record.bytes_after == e.nbytes + 48 * 4
    assert record.notes == ()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group", [0, 32, 64])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scales", ["absmax", "mse"])
def test_bytes_and_errors_for_all_options(bits, group, symmetric, scales):
    program = linear_program()
    after, record = apply(program, bits=bits, group=group, symmetric=symmetric, scales=scales)
    e = encoding(after, "w")
    blocks = 48 * (64 // (group or 64))
    zeros = 0 if symmetric else math.ceil(blocks * bits / 8)
    assert e.nbytes == math.ceil(48 * 64 * bits / 8) + 2 * blocks + zeros
    w = encoding(program, "w").decode()
    assert record.errors == {"w": relative_error(w, e.decode())}
    if scales == "absmax":
        step = e.scale.float().unsqueeze(-1)
        assert bool((e.blocks((e.decode() - w).abs()) <= step * (0.5 + 255 * 2**-23)).all())


def test_more_bits_smaller_groups_and_better_scales_lose_less():
    def error(**options):
        return apply(linear_program(), **options)[1].errors["w"]

    by_bits = [error(bits=b) for b in range(2, 9)]
    assert by_bits == sorted(by_bits, reverse=True)
    assert error(bits=4, group=32) < error(bits=4, group=64) < error(bits=4, scales="absmax")
    assert error(bits=4, scales="mse") < error(bits=4, scales="absmax")
    assert error(bits=4, group=32, symmetric=False) < error(bits=4, group=32)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_scales_are_stored_in_the_dtype_and_codes_fit_them(dtype):
    """Encoding the weights again with the stored scales gives the stored codes."""
    program = linear_program()
    after, _ = apply(program, bits=4, group=32, scale_dtype=dtype)
    e = encoding(after, "w")
    assert DType.of(e.scale.dtype).value == dtype
    assert torch.equal(e.encode(encoding(program, "w").decode()).codes, e.codes)


def test_whole_rows_leave_out_the_least_code():
    for bits in (2, 4, 8):
        after, _ = apply(linear_program(), bits=bits)
        assert int(encoding(after, "w").codes.min()) >= 1 - 2 ** (bits - 1)


# ------------------------------------------------------------------ which weights, along which axis
def test_a_shared_matrix_is_stored_once_for_gather_and_linear():
    program = tied_program()
    after, record = apply(program, bits=4, group=32)
    e = encoding(after, "shared")
    assert (e.axis, e.group, list(e.scale.shape)) == (0, 32, [100, 2])
    assert record.bytes_after == sum(encoding(after, n).nbytes for n in ("shared", "w"))
    ids = torch.tensor([[1, 2, 3, 99, 0]])
    got = Interpreter(after, constants={"w": torch.eye(64)}).run([ids], "encode")[0]
    assert torch.equal(got[0], e.decode()[ids[0]])


def test_tables_have_bits_and_groups_of_their_own():
    for options, stored in [
        ({}, (4, 32)),
        ({"embeddings": 8}, (8, 0)),
        ({"embeddings": 8, "embedding_group": 64}, (8, 64)),
        ({"embedding_group": 0}, (4, 0)),
        ({"embeddings": 4}, (4, 32)),
    ]:
        after, _ = apply(tied_program(), bits=4, group=32, **options)
        table, w = encoding(after, "shared"), encoding(after, "w")
        assert (table.bits, table.group) == stored
        assert (w.bits, w.group) == (4, 32)


def one_weight(emit, shape, **inputs) -> Program:
    b = builder(**inputs)
    result = emit(b, b.constant(tensor(*shape), "w"))
    return program_of(b, *(result if isinstance(result, tuple) else (result,)))


def conv_program(op="conv", **attributes) -> Program:
    shape = (16, 8, 3, 3)
    return one_weight(
        lambda b, w: getattr(b, op)(b.input("x"), w, None, **attributes),
        shape,
        x=(BATCH, 8 if op == "conv" else 16, 9, 9),
    )


PADS = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("program", "axis", "scales"),
    [
        (
            lambda: conv_program(stride=(1, 1), padding=PADS, dilation=(1, 1), groups=1),
            0,
            [16, 1],
        ),
        (
            lambda: conv_program(
                "conv_transpose",
                stride=(1, 1),
                padding=(1, 1),
                output_padding=(0, 0),
                dilation=(1, 1),
                groups=1,
            ),
            1,
            [8, 1],
        ),
        (
            lambda: one_weight(lambda b, w: b.matmul(b.input("x"), w), (32, 48), x=(BATCH, 3, 32)),
            1,
            [48, 1],
        ),
        (
            lambda: one_weight(lambda b, w: b.matmul(w, b.input("x")), (48, 32), x=(BATCH, 32, 3)),
            0,
            [48, 1],
        ),
        (
            lambda: one_weight(lambda b, w: b.gather(w, b.input("ids")), (48, 32), ids=(BATCH,)),
            0,
            [48, 1],
        ),
    ],
)
def test_rows_are_output_channels(program, axis, scales):
    after, record = apply(program())
    e = encoding(after, "w")
    assert isinstance(e, Affine)
    assert (e.axis, list(e.scale.shape)) == (axis, scales)
    assert record.errors["w"] < 0.01


def test_groups_run_along_the_flattened_reduction_of_a_conv():
    program = conv_program(stride=(1, 1), padding=PADS, dilation=(1, 1), groups=1)
    after, _ = apply(program, bits=4, group=24)
    assert list(encoding(after, "w").scale.shape) == [16, 3]
    w = encoding(program, "w").decode().reshape(16, 3, 24)
    worst = (encoding(after, "w").decode().reshape(16, 3, 24) - w).abs().amax(-1)
    assert bool((worst < w.abs().amax(-1) / 7).all())


def test_recurrent_weights_are_quantized_and_their_biases_not():
    b = builder(x=(BATCH, 4, 16))
    hidden = 24
    shapes = {"ih": (4 * hidden, 16), "hh": (4 * hidden, hidden), "bi": (96,), "bh": (96,)}
    weights = [b.constant(tensor(*s), n) for n, s in shapes.items()]
    state = b.full(shape=(1, BATCH, hidden), value=0.0, dtype=DType.F32)
    op = Lstm(hidden=hidden, layers=1, bidirectional=False, bias=True)
    y, _, _ = b.emit(op, b.input("x"), state, state, *weights)
    after, record = apply(program_of(b, y))
    assert record.errors.keys() == {"ih", "hh"}
    assert isinstance(encoding(after, "bi"), Dense)


# ------------------------------------------------------------------ what is left, and said
def test_what_does_not_fit_is_reported_by_name():
    b = builder(x=(BATCH, 30))
    x = b.linear(b.input("x"), b.constant(tensor(64, 30), "odd"), None)
    x = b.linear(x, b.constant(tensor(64, 64) * float("nan"), "broken"), None)
    x = b.linear(x, b.constant(tensor(2, 64), "small"), None)
    x = b.add(x, b.constant(tensor(1, 2), "vector"))
    x = b.mul(b.reshape(x, shape=(BATCH, 2, 1)), b.constant(tensor(2, 300), "plane"))
    program = program_of(b, x)
    after, record = apply(program, bits=4, group=32)
    assert not record.modified and not record.errors
    assert not differs(program, after)
    assert record.notes == (
        "@odd: K=30; need a multiple of group=32; left dense",
        "@broken: NaN or infinite weights; need finite ones; left dense",
        "@small: 128 weights; need 256 (min_numel); left dense",
        "@plane: used by mul, as the weight of none; left dense",
        "nothing to do: no weight was quantized",
    )


def test_misfits_get_whole_rows_or_fail_where_asked_for():
    b = builder(x=(BATCH, 30))
    x = b.linear(b.input("x"), b.constant(tensor(64, 30), "odd"), None)
    x = b.linear(x, b.constant(tensor(33, 64), "even"), None)
    program = program_of(b, b.linear(x, b.constant(tensor(16, 33), "prime"), None))
    after, record = apply(program, bits=4, group=32, misfits="rows")
    stored = {n: encoding(after, n) for n in ("odd", "even", "prime")}
    assert {n: e.group for n, e in stored.items()} == {"odd": 0, "even": 32, "prime": 0}
    assert record.notes == (
        "@odd: K=30; need a multiple of group=32; one scale per row",
        "@prime: K=33; need a multiple of group=32; one scale per row",
    )
    with pytest.raises(
        PassError, match=r"@odd: K=30; .*@prime: K=33; .*set misfits, group or skip"
    ):
        apply(program, bits=4, group=32, misfits="fail")
    apply(program, bits=4, group=32, misfits="fail", skip=("odd", "prime"))


def test_scales_beyond_their_dtype_are_reported():
    after, record = apply(linear_program(w=tensor(48, 64) * 1e8), bits=2, scale_dtype="f16")
    assert record.notes[0] == ("@w: scales beyond the range of f16; need bf16 or f32; left dense")
    assert isinstance(encoding(after, "w"), Dense)


def test_patterns_select_by_name_and_idle_ones_are_told():
    program = tied_program()
    after, record = apply(program, skip=("shar*",))
    assert record.errors.keys() == {"w"}
    after, record = apply(program, include=("shared", "decoder.*"))
    assert record.errors.keys() == {"shared"}
    assert record.notes == ("pattern 'decoder.*' matches no constant",)
    assert isinstance(encoding(after, "w"), Dense)


@pytest.mark.parametrize("spec", ["quantize-weights", "quantize-weights{bits=4,group=32}"])
def test_a_second_run_finds_nothing_to_do(spec):
    once, _ = parse_pipeline([spec]).run(tied_program())
    twice = parse_pass(spec).apply(once)
    assert not twice.modified
    assert not differs(once, twice.program)
    assert twice.notes == (
        "compressed already, left as they are: @shared, @w",
        "nothing to do: no weight was quantized",
    )


# ------------------------------------------------------------------ composition
def test_the_argument_is_left_alone():
    program = tied_program()
    text, digests = program.text(), [c.encoding.digest for c in program.constants.values()]
    apply(program, bits=4, group=32, activations="none")
    assert program.text() == text
    assert [c.encoding.digest for c in program.constants.values()] == digests


def test_results_are_the_same_every_time():
    options = {"bits": 3, "group": 32, "symmetric": False}
    first, second = (apply(tied_program(), **options)[0] for _ in range(2))
    assert not differs(first, second)


def test_a_mask_stays_and_what_is_under_it_is_quantized():
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    program = linear_program()
    sparse = Sparse("two_four", mask, encoding(program, "w"))
    program.constants["w"] = Constant("w", sparse)
    after, record = apply(program, bits=4, group=32)
    e = encoding(after, "w")
    assert e.describe() == "sparse(two_four, affine(bits=4, group=32, scale=bf16))"
    assert torch.equal(e.mask, mask)
    assert e.nbytes == 48 * 64 // 12 + 48 * 64 // 4 + 48 * 2 * 2
    assert record.errors["w"] < 0.1


def test_sixteen_bit_constants_are_quantized_too():
    cast, _ = parse_pipeline(["cast-weights{dtype=f16}"]).run(linear_program())
    after, _ = apply(cast, bits=4, group=32)
    assert encoding(after, "w").describe() == "affine(bits=4, group=32, scale=bf16)"
    assert str(after.constants["w"].type) == "f32[48, 64]"


def test_weights_of_f16_programs_decode_to_f16():
    b = builder(dtype=DType.F16, x=(BATCH, 64))
    w = b.constant(tensor(48, 64).half(), "w")
    after, _ = apply(program_of(b, b.linear(b.input("x"), w, None)))
    assert encoding(after, "w").decode().dtype == torch.float16


def test_the_graph_and_its_text_are_kept():
    program = tied_program()
    after, record = apply(program, bits=4, group=32)
    assert record.nodes_before == record.nodes_after
    for name, graph in program.graphs.items():
        assert after.graphs[name].structure() == graph.structure()
    assert (
        "@shared = const f32[100, 64] affine(bits=4, group=32, scale=bf16) sha256:" in after.text()
    )


def test_files_carry_the_codes(tmp_path):
    after, _ = apply(tied_program(), bits=3, group=32, symmetric=False)
    after.save(tmp_path)
    assert not differs(after, Program.load(tmp_path))


# ------------------------------------------------------------------ activations
@pytest.mark.parametrize("activations", ["dynamic", "dynamic_token"])
def test_activations_are_set_where_the_weight_has_eight_bits(activations):
    b = builder(x=(BATCH, 64))
    x = b.linear(b.input("x"), b.constant(tensor(64, 64), "w"), None)
    x = b.linear(x, b.constant(tensor(64, 64, seed=1), "skipped"), None)
    x = b.linear(x, b.constant(tensor(2, 64), "small"), None)
    program = program_of(b, x)
    after, _record = apply(program, activations=activations, skip=("skipped",))
    set_on = {n.inputs[1]: n.op for n in after.main.nodes}
    none = Linear()
    assert set_on == {"@w": Linear(activations), "@skipped": none, "@small": none}
    assert all(n.op == none for n in program.main.nodes)


def test_activations_can_be_set_after_the_weights():
    once, _ = apply(linear_program())
    twice, record = apply(once, activations="dynamic")
    assert record.modified and not record.errors
    assert twice.main.nodes[0].op == Linear("dynamic")
    assert encoding(twice, "w") is encoding(once, "w")
    assert not apply(twice, activations="dynamic")[1].modified


def test_the_outputs_of_int8_stay_close():
    program = linear_program(n=64, k=256)
    x = tensor(8, 256, seed=3)
    for spec, bound in [
        ("quantize-weights", 0.02),
        ("quantize-weights{activations=dynamic_token}", 0.03),
    ]:
        _, (record,) = parse_pipeline([spec]).run(program, {"main": [[x]]})
        assert record.deviation is not None
        assert record.deviation.max_ratio < bound
        assert record.deviation.cosine > 0.999


def test_options_are_plain_values():
    made = dataclasses.replace(QuantizeWeights(), bits=4)
    assert hash(made) == hash(QuantizeWeights(bits=4))
