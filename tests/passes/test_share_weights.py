"""share-weights: equal constants are one, nearly equal ones their mean, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.sharing import cluster
from edgec.passes.share_weights import ShareWeights
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.programs import decoder

BATCH, K = symbol("batch"), 24


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layers(*weights, bias=True) -> Program:
    """One linear layer after the other."""
    typed = [("x", TensorType(DType.F32, (BATCH, K)))]
    b = Builder.new("main", typed, {}, {"batch": Range(1, 64)})
    y = b.input("x")
    for i, w in enumerate(weights):
        own = b.constant(tensor(w.shape[0], seed=50 + i), f"bias{i}") if bias else None
        y = b.tanh(b.linear(y, b.constant(w, f"w{i}"), own))
    graph = b.finish([y])
    return Program({"main": graph}, graph.constants).verify()


def apply(before: Program, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    after, (record,) = parse_pipeline([ShareWeights(**options)]).run(before)
    return after, record


def output(given_program: Program):
    return Interpreter(given_program).run([tensor(5, K, seed=9)])[0]


# ------------------------------------------------------------------ numerics
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.6), st.floats(0.0, 1.0))
def test_every_member_is_near_to_its_mean(seed, tolerance, spread):
    base = [tensor(4, 3, seed=seed + i) for i in range(2)]
    tensors = [base[i % 2] + spread * tensor(4, 3, seed=seed + 10 + i) for i in range(7)]
    counts = [1 + i % 3 for i in range(7)]
    groups = cluster(tensors, counts, tolerance)
    for group in groups:
        total = sum(counts[i] for i in group.members)
        mean = sum(counts[i] * tensors[i].double() for i in group.members) / total
        torch.testing.assert_close(group.mean, mean)
        for i in group.members:
            assert (tensors[i] - mean).norm() <= tolerance * tensors[i].norm() * (1 + 1e-6)
    members = [i for g in groups for i in g.members]
    assert len(members) == len(set(members)) and all(len(g.members) > 1 for g in groups)
    if not spread:
        assert [g.members for g in groups[:2]] == [(0, 2, 4, 6), (1, 3, 5)]


# ------------------------------------------------------------------ equal ones
def test_equal_constants_are_stored_once():
    w = tensor(K, K)
    before = layers(w, tensor(K, K, seed=1), w.clone())
    after, record = apply(before)
    assert set(after.constants) == {"w0", "w1", "bias0", "bias1", "bias2"}
    assert after.nbytes == before.nbytes - K * K * 4 and record.errors == {}
    assert torch.equal(output(after), output(before))


def test_functions_share_constants():
    before = decoder()
    before.constants["copy"] = Constant("copy", before.constants["table"].encoding)
    step = before.graphs["step"]
    step.nodes[:] = [n.renamed({"@table": "@copy"}) for n in step.nodes]
    after, _ = apply(before.verify())
    assert list(after.constants) == ["table"]
    assert not differs(decoder(), after)


def test_compressed_constants_are_compared_by_what_is_stored():
    w = tensor(K, K)
    before, _ = parse_pipeline(["quantize-weights{bits=4}"]).run(layers(w, w.clone()))
    after, _ = apply(before)
    assert "w1" not in after.constants
    assert isinstance(after.constants["w0"].encoding, Affine)
    before, _ = parse_pipeline(["quantize-weights{bits=4,include=[w0]}"]).run(layers(w, w.clone()))
    after, record = apply(before, tolerance=0.5)
    assert not record.modified and record.notes == ("nothing to do: no two weights are alike",)


# ------------------------------------------------------------------ transposed
@pytest.mark.parametrize("bias", [False, True])
def test_a_transposed_matrix_is_stored_once(bias, tmp_path):
    w = tensor(40, K)
    before = layers(w, w.T.contiguous(), bias=bias)
    after, record = apply(before)
    assert [n for n in after.constants if n.startswith("w")] == ["w1"] and record.modified
    torch.testing.assert_close(output(after), output(before))
    after, _ = parse_pipeline(["quantize-weights{bits=8}"]).run(after)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    inputs = [tensor(5, K, seed=9)]
    got = target.load(tmp_path).run("main", inputs)[0]
    torch.testing.assert_close(got, output(after), rtol=1e-4, atol=1e-4)
    after, record = apply(before, transposed=False)
    assert not record.modified and not differs(before, after)


def test_a_symmetric_matrix_is_left_and_other_readers_prevent_it():
    w = tensor(K, K)
    before = layers(w + w.T)
    assert not apply(before)[1].modified

    b = Builder.new("main", [("x", TensorType(DType.F32, (BATCH, K)))], {}, {"batch": Range(1, 9)})
    a, c = b.constant(w, "a"), b.constant(w.T.contiguous(), "c")
    y = b.add(b.linear(b.input("x"), a, None), b.linear(b.input("x"), c, None))
    graph = b.finish([b.add(y, b.reduce_sum(b.add(a, c), axes=(0,)))])
    before = Program({"main": graph}, graph.constants).verify()
    assert not apply(before)[1].modified


# ------------------------------------------------------------------ nearly equal ones
def test_nearly_equal_ones_become_their_mean_weighted_by_readers():
    w = tensor(K, K)
    near = w + 0.1 * tensor(K, K, seed=1)
    before = layers(w, near, w.clone(), tensor(K, K, seed=2))
    assert apply(before, tolerance=0.01)[1].errors == {}
    after, record = apply(before, tolerance=0.1)
    mean = (2 * w + near) / 3  # the first and the third were equal
    torch.testing.assert_close(after.constants["w0"].encoding.decode(), mean)
    assert {n for n in after.constants if n.startswith("w")} == {"w0", "w3"}
    want = {n: float((t - mean).norm() / t.norm()) for n, t in (("w0", w), ("w1", near))}
    assert record.errors == pytest.approx(want) and max(want.values()) < 0.1


def test_constants_of_other_shapes_kinds_and_values_are_left():
    w = tensor(K, K)
    broken = w.clone()
    broken[0, 0] = torch.nan
    before = layers(w, tensor(40, K), tensor(K, 40))
    assert not apply(before, tolerance=0.9)[1].modified
    assert not apply(layers(broken, w), tolerance=0.9)[1].modified
    before = layers(w, w + 0.01)
    before.constants["w1"] = Constant("w1", Dense((w + 0.01).half(), DType.F32))
    assert not apply(before, tolerance=0.9)[1].modified
    assert not apply(layers(w, w.clone()), min_numel=10**6)[1].modified
    _, record = apply(layers(w, w.clone()), skip=("w1",), include=("w*", "nope"))
    assert record.notes[0] == "pattern 'nope' matches no constant" and not record.modified


def test_options_and_text():
    for text, told in (
        ("tolerance=1.0", "tolerance=1.0, need 0 <="),
        ("min_numel=-1", "min_numel"),
    ):
        with pytest.raises(PassError, match=told):
            parse_pass(f"share-weights{{{text}}}")
    spec = "share-weights{tolerance=0.05,transposed=False}"
    assert str(parse_pass(spec)) == spec


def test_the_result_is_the_same_every_time_and_the_argument_stays():
    before = layers(tensor(K, K), tensor(K, K) + 0.01, tensor(K, K).T.contiguous())
    text = before.text()
    first, second = (apply(before, tolerance=0.1)[0] for _ in range(2))
    assert not differs(first, second) and before.text() == text
