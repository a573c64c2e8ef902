"""Clean-up passes where golden text does not reach: several functions, compressed constants."""

from __future__ import annotations

import pytest
import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, State, TensorType, Value
from edgec.ir.encodings import Affine
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.transform import differs

F32 = DType.F32
RNG = torch.Generator().manual_seed(0)


def function(name, pool, body, shape=(2, 8), dtype=F32):
    """A graph of one input `x`."""
    b = Builder.new(name, [("x", TensorType(dtype, shape))], pool)
    return b.finish([body(b, b.input("x"))], ["y"])


def programs_of(pool, **bodies):
    graphs = {name: function(name, pool, body) for name, body in bodies.items()}
    return Program(graphs, pool).verify()


def dense(name, *shape):
    return Constant(name, Dense(torch.randn(shape, generator=RNG)))


def affine(name, rows, width):
    codes = torch.randint(-8, 8, (rows, width), generator=RNG).to(torch.int8)
    return Constant(name, Affine(codes, torch.full((rows, 1), 0.25), bits=4))


def reference(constant):
    return Value(constant.ref, constant.type)


def run(program, function=None):
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    return Interpreter(program).run([x], function)[0]


# ------------------------------------------------------------------ several functions
def test_a_matrix_of_two_functions_is_transposed_once_and_keeps_its_name():
    w = dense("weight", 8, 16)
    product = lambda b, x: b.matmul(x, reference(w))  # noqa: E731
    program = programs_of({"weight": w}, prefill=product, step=product)
    after, _ = parse_pipeline(CLEANUP).run(program)
    assert list(after.constants) == ["weight"]
    assert after.nbytes == program.nbytes
    assert [g.nodes[0].op.name for g in after.graphs.values()] == ["linear", "linear"]
    for name in program.graphs:
        torch.testing.assert_close(run(after, name), run(program, name))


def test_a_matrix_that_one_function_gathers_from_stays_as_it_is():
    w = dense("weight", 8, 8)

    def table(b, x):
        return b.gather(reference(w), b.cast(b.round(b.sigmoid(x)), dtype=DType.I64))

    program = programs_of({"weight": w}, encode=table, step=lambda b, x: b.matmul(x, reference(w)))
    assert not parse_pass("fuse").apply(program).modified


def test_equal_computations_of_two_functions_are_stored_once():
    w = dense("weight", 16, 8)

    def product(b, x):
        return b.matmul(x, b.permute(reference(w), order=(1, 0)))

    program = programs_of({"weight": w}, prefill=product, step=product)
    result = parse_pass("fold-constants{limit_bytes=0}").apply(program)
    assert list(result.program.constants) == ["weight"]
    assert result.program.constants["weight"].encoding.type.shape == (8, 16)
    assert result.program.nbytes == program.nbytes


def test_a_value_is_not_stored_where_another_function_needs_its_source():
    w = dense("weight", 16, 8)
    program = programs_of(
        {"weight": w},
        encode=lambda b, x: b.linear(x, reference(w)),
        step=lambda b, x: b.matmul(x, b.permute(reference(w), order=(1, 0))),
    )
    result = parse_pass("fold-constants{limit_bytes=256}").apply(program)
    assert not result.modified
    assert result.notes == ("%permute: f32[8, 16] stays computed, 512 bytes would be stored",)


def test_a_bias_does_not_fold_into_a_weight_that_another_function_reads():
    w, b = dense("weight", 4, 8), dense("scale", 4)
    scaled = lambda s, x: s.mul(s.linear(x, reference(w)), reference(b))  # noqa: E731
    both = programs_of(
        {"weight": w, "scale": b}, encode=scaled, step=lambda s, x: s.linear(x, reference(w))
    )
    assert not parse_pass("fuse").apply(both).modified
    alone = programs_of({"weight": w, "scale": b}, encode=scaled)
    result = parse_pass("fuse").apply(alone)
    assert [n.op.name for n in result.program.main.nodes] == ["linear"]
    assert list(result.program.constants) == ["weight"]


def test_states_and_unread_inputs_stay():
    past = TensorType(F32, (2, 4))
    b = Builder.new("step", [("past", past), ("unread", past)], dims={"n": Range()})
    graph = b.finish([b.add(b.input("past"), b.scalar(0.0, F32))], ["present"])
    graph.states = (State("past", "present"),)
    program = Program({"step": graph}, graph.constants).verify()
    after, _ = parse_pipeline(CLEANUP).run(program)
    assert [v.name for v in after.main.inputs] == ["past", "unread"]
    assert after.main.states == graph.states
    assert after.main.outputs == ("past",)


# ------------------------------------------------------------------ compressed constants
def test_a_compressed_weight_is_not_decoded_by_folding():
    w = affine("weight", 16, 8)
    program = programs_of(
        {"weight": w}, main=lambda b, x: b.matmul(x, b.permute(reference(w), order=(1, 0)))
    )
    assert not parse_pass("fold-constants").apply(program).modified


def test_a_compressed_table_is_decoded_where_the_file_shrinks():
    w = affine("table", 64, 8)
    program = programs_of(
        {"table": w},
        main=lambda b, x: b.add(x, b.slice(reference(w), axis=0, start=3, stop=4)),
    )
    result = parse_pass("fold-constants").apply(program)
    assert result.program.nbytes == 32 < program.nbytes
    assert torch.equal(run(result.program), run(program))


@pytest.mark.parametrize(
    "body",
    [
        lambda b, x, w: b.matmul(x, b.permute(w, order=(1, 0))),
        lambda b, x, w: b.mul(b.linear(x, w), b.scalar(0.5, F32)),
    ],
)
def test_a_compressed_weight_is_not_changed_by_fusion(body):
    w = affine("weight", 16, 8)
    program = programs_of({"weight": w}, main=lambda b, x: body(b, x, reference(w)))
    assert not parse_pass("fuse").apply(program).modified


def test_a_bias_joins_a_compressed_weight():
    w, bias = affine("weight", 16, 8), dense("bias", 16)
    program = programs_of(
        {"weight": w, "bias": bias},
        main=lambda b, x: b.add(b.linear(x, reference(w)), reference(bias)),
    )
    after = parse_pass("fuse").apply(program).program
    assert after.constants["weight"].encoding is w.encoding
    assert [n.op.name for n in after.main.nodes] == ["linear"]
    torch.testing.assert_close(run(after), run(program))


def test_equal_compressed_constants_are_merged_and_different_encodings_are_not():
    one = affine("one", 8, 8)
    two = Constant("two", one.encoding)
    three = Constant("three", Dense(one.encoding.decode()))

    def total(b, x):
        return b.add(b.linear(x, reference(one)), b.add(b.linear(x, reference(two)), x))

    program = programs_of({"one": one, "two": two}, main=total)
    merged = parse_pass("eliminate-common-subexpressions").apply(program).program
    assert list(merged.constants) == ["one"]
    assert len(merged.main.nodes) == 3
    other = programs_of(
        {"one": one, "three": three},
        main=lambda b, x: b.add(b.linear(x, reference(one)), b.linear(x, reference(three))),
    )
    assert not parse_pass("eliminate-common-subexpressions").apply(other).modified


# ------------------------------------------------------------------ options and mistakes
def test_options_that_do_not_fit_are_refused():
    program = programs_of({}, main=lambda b, x: b.relu(x))
    with pytest.raises(PassError, match=r"\[fold-constants\] got limit_bytes=-1"):
        parse_pass("fold-constants{limit_bytes=-1}").requires(program)
    with pytest.raises(PassError, match=r"\[fuse\] got sets norm; need some of activations, norms"):
        parse_pass("fuse{sets=[norm]}").requires(program)


def test_a_constant_computation_that_fails_names_its_node():
    table, ids = dense("table", 4, 8), Constant("ids", Dense(torch.tensor([1, 9])))
    program = programs_of(
        {"table": table, "ids": ids},
        main=lambda b, x: b.add(x, b.gather(reference(table), reference(ids))),
    )
    with pytest.raises(PassError, match="%gather = gather fails: index out of range"):
        parse_pass("fold-constants").apply(program)


def test_the_limit_decides_whether_a_small_table_is_stored():
    def scaled(b, x):
        return b.mul(x, b.exp(b.iota(size=8, dtype=F32)))

    program = programs_of({}, main=scaled)
    stored = parse_pass("fold-constants{limit_bytes=32}").apply(program)
    assert [n.op.name for n in stored.program.main.nodes] == ["mul"]
    assert torch.equal(run(stored.program), run(program))
    computed = parse_pass("fold-constants{limit_bytes=31}").apply(program)
    assert not differs(program, computed.program)
    assert computed.notes == ("%exp: f32[8] stays computed, 32 bytes would be stored",)
