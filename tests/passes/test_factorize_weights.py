"""factorize-weights: two layers for one, the best of their rank, for every form of a product."""

from __future__ import annotations

import pytest
import torch

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.ops.conv import Conv
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.factorize_weights import FactorizeWeights
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.programs import classifier, decoder, embedder

BATCH, K, N = symbol("batch"), 48, 40


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calls(*shape, count=6):
    """Inputs whose elements along the last axis are correlated, some of them much greater."""
    mix = tensor(shape[-1], shape[-1], seed=99) / shape[-1] ** 0.5 + 0.4
    return [[tensor(*shape, seed=i) @ mix * tensor(shape[-1], seed=98).exp()] for i in range(count)]


def program(*shape, make) -> Program:
    typed = [("x", TensorType(DType.F32, (BATCH, *shape)))]
    b = Builder.new("main", typed, {}, {"batch": Range(1, 64)})
    graph = b.finish([make(b, b.input("x"))])
    return Program({"main": graph}, graph.constants).verify()


def linear(b, x):
    return b.linear(x, b.constant(tensor(N, K), "w"), b.constant(tensor(N, seed=1), "bias"))


def matmul(b, x):
    return b.matmul(x, b.constant(tensor(K, N), "w"))


def matmul_left(b, x):
    return b.matmul(b.constant(tensor(N, K), "w"), b.permute(x, order=(0, 2, 1)))


def convolution(b, x):
    op = Conv((2, 1), ((1, 0), (1, 1)), (1, 2), 1)
    return b.emit(op, x, b.constant(tensor(24, 6, 3, 3), "w"), b.constant(tensor(24, seed=1), "b"))


FORMS = {
    "linear": ((K,), linear),
    "matmul": ((5, K), matmul),
    "matmul_left": ((5, K), matmul_left),
    "conv": ((6, 9, 8), convolution),
}


def apply(given: Program, calibration=None, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    data = {"main": calibration} if isinstance(calibration, list) else calibration
    after, (record,) = parse_pipeline([FactorizeWeights(**options)]).run(given, calibration=data)
    return after, record


def rows(given: Program, name="w"):
    w = given.constants[name].encoding.decode()
    return w.T if given.main.nodes[-1].op.name == "matmul" and w.shape == (K, N) else w.flatten(1)


def outputs(given: Program, data, function="main"):
    return [Interpreter(given).run(call, function)[0] for call in data]


# ------------------------------------------------------------------ every form of a product
@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_is_the_product_with_the_nearest_matrix(form):
    shape, make = FORMS[form]
    before = program(*shape, make=make)
    after, record = apply(before, rank=7)
    w = before.constants["w"].encoding.decode()
    flat = w.T if form == "matmul" else w.flatten(1)
    u, s, v = torch.linalg.svd(flat.double(), full_matrices=False)
    near = (u[:, :7] * s[:7] @ v[:7]).float()
    wanted = near.T if form == "matmul" else near.reshape(w.shape)
    reference = before.copy()
    reference.constants["w"] = Constant("w", Dense(wanted.contiguous()))
    data = [[tensor(3, *shape, seed=4)]]
    torch.testing.assert_close(outputs(after, data), outputs(reference, data), rtol=1e-4, atol=1e-3)
    assert record.errors["w"] == pytest.approx(float((near - flat).norm() / flat.norm()), abs=1e-5)
    assert [n.op.name for n in after.main.nodes[-2:]] == [before.main.nodes[-1].op.name] * 2
    assert before.main.nodes[-1].output == after.main.nodes[-1].output
    assert "w" not in after.constants and {"w.up", "w.down"} <= after.constants.keys()
    saved = (w.numel() - 7 * sum(flat.shape)) * 4
    assert after.nbytes == before.nbytes - saved


@pytest.mark.parametrize("form", FORMS)
def test_the_emitted_file_computes_the_same(form, tmp_path):
    shape, make = FORMS[form]
    after, _ = apply(program(*shape, make=make), rank=8)
    after, _ = parse_pipeline(["quantize-weights{bits=8,min_numel=64}"]).run(after)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    inputs = [tensor(2, *shape, seed=3)]
    got = target.load(tmp_path).run("main", inputs)[0]
    torch.testing.assert_close(got, outputs(after, [inputs])[0], rtol=1e-3, atol=1e-2)


# ------------------------------------------------------------------ score, ranks
def test_with_calibration_data_the_outputs_lose_less():
    before = program(K, make=linear)
    data, other = calls(16, K), calls(16, K, count=9)[6:]
    scored, record = apply(before, data, rank=8, score="activation")
    plain, flat = apply(before, rank=8)

    def loss(made):
        pairs = zip(outputs(made, other), outputs(before, other), strict=True)
        return float(sum((a - b).square().sum() for a, b in pairs))

    assert loss(scored) < 0.5 * loss(plain)
    assert record.errors["w"] > flat.errors["w"]


def test_layers_are_scored_with_the_inputs_that_they_get():
    """The second layer is factorized for what the first, factorized, gives."""

    def make(b, x):
        h = b.linear(x, b.constant(tensor(K, K), "first"), None)
        return b.linear(h, b.constant(tensor(N, K, seed=1), "w"), None)

    before, data = program(K, make=make), calls(16, K)
    after, _ = apply(before, data, rank=8, score="activation", damping=0.0)
    first = after.constants["first.up"].encoding.decode() @ (
        after.constants["first.down"].encoding.decode()
    )
    x = torch.cat([c[0] for c in data]) @ first.T
    w = before.constants["w"].encoding.decode()
    u, _, _ = torch.linalg.svd((w @ x.T).double(), full_matrices=False)
    want = (u[:, :8] @ u[:, :8].T @ w.double()).float() @ x.T
    got = after.constants["w.up"].encoding.decode() @ after.constants["w.down"].encoding.decode()
    torch.testing.assert_close(got @ x.T, want, rtol=1e-3, atol=0.05)


def test_an_error_is_held_and_ranks_are_multiples():
    before = program(256, make=lambda b, x: b.linear(x, b.constant(low_rank(200, 256), "w"), None))
    after, record = apply(before, error=0.1)
    rank = after.constants["w.down"].type.shape[0]
    assert record.errors["w"] <= 0.1 and rank % 8 == 0
    finer, _ = apply(before, error=0.1, multiple=1)
    assert rank - 8 < finer.constants["w.down"].type.shape[0] <= rank


def low_rank(n, k):
    return tensor(n, 20) @ tensor(20, k, seed=1) + 0.1 * tensor(n, k, seed=2)


def two_layers() -> Program:
    """One weight of nearly rank 20, one of full rank."""

    def make(b, x):
        h = b.linear(x, b.constant(low_rank(96, 96), "easy"), None)
        return b.linear(h, b.constant(tensor(96, 96), "hard"), None)

    return program(96, make=make)


@pytest.mark.parametrize("score", ["plain", "activation"])
def test_a_ratio_is_of_all_weights_and_goes_where_a_byte_saves_most(score):
    before, data = two_layers(), calls(16, 96)
    after, record = apply(before, data, ratio=0.75, score=score)
    assert 0.6 < after.nbytes / before.nbytes <= 0.75
    shared = float(sum(e**2 for e in record.errors.values()))
    each, other = apply(before, data, ratio=0.75, score=score, spread="each")
    assert each.nbytes <= 0.75 * before.nbytes
    if score == "plain":
        assert shared < float(sum(e**2 for e in other.errors.values()))
    assert "@hard: whole is the best use of its bytes; left dense" in record.notes


def test_a_ratio_that_no_rank_holds_is_told():
    told = r"ratio=0\.05 of the 73728 bytes of @.*; need at least 12288 bytes"
    with pytest.raises(PassError, match=told):
        apply(two_layers(), ratio=0.05)
    _, record = apply(two_layers(), ratio=0.05, spread="each")
    assert "@easy: ratio=0.05 of [96, 96]; need ratio >= 0.167; left dense" in record.notes
    assert not record.modified


# ------------------------------------------------------------------ what is left, what is told
@pytest.mark.parametrize("form", ["linear", "conv"])
def test_a_rank_that_saves_nothing_leaves_the_weight(form):
    shape, make = FORMS[form]
    before = program(*shape, make=make)
    after, record = apply(before, rank=22)
    need = "need a rank <= " + ("21" if form == "linear" else "16")
    assert not differs(before, after)
    assert any(need in n and n.startswith("@w: rank=22") for n in record.notes)
    assert record.notes[-1] == "nothing to do: no weight was factorized"
    with pytest.raises(PassError, match=f"@w: rank=22 .*{need}"):
        apply(before, rank=22, misfits="fail")
    _, record = apply(before, rank=1000)
    assert any(n.startswith("@w: rank=1000") for n in record.notes)


def test_tables_and_weights_with_other_readers_are_left():
    _, record = apply(embedder(), rank=4)
    assert "@table: a table; see factorize-embeddings; left as it is" in record.notes
    _, record = apply(decoder(), rank=4)
    assert "@table: a table; see factorize-embeddings; left as it is" in record.notes

    def make(b, x):
        w = b.constant(tensor(K, K), "w")
        return b.add(b.linear(x, w, None), b.reduce_sum(w, axes=(0,)))

    _, record = apply(program(K, make=make), rank=4)
    assert any(n.startswith("@w: read by reduce_sum") for n in record.notes)


def test_one_weight_of_two_products_is_split_once():
    def make(b, x):
        w = b.constant(tensor(K, K), "w")
        return b.linear(b.tanh(b.linear(x, w, None)), w, None)

    before = program(K, make=make)
    after, _ = apply(before, calls(8, K), rank=6, score="activation")
    assert list(after.constants) == ["w.down", "w.up"]
    assert len(after.main.nodes) == 5


def test_a_compressed_weight_and_one_that_is_not_finite_are_left():
    before = classifier(width=32, classes=30)
    rounded, _ = parse_pipeline(["quantize-weights{include=['layer0*']}"]).run(before)
    _, record = apply(rounded, rank=4)
    assert "compressed already, left as they are: @layer0.weight" in record.notes
    w = before.constants["layer0.weight"].encoding.decode().clone()
    w[0, 0] = torch.nan
    before.constants["layer0.weight"] = Constant("layer0.weight", Dense(w))
    _, record = apply(before, rank=4)
    assert any("NaN or infinite weights" in n for n in record.notes)
    assert list(record.errors) == ["layer1.weight"]


def test_factors_are_stored_as_the_weight_was():
    before, _ = parse_pipeline(["cast-weights{dtype=f16}"]).run(program(K, make=linear))
    after, _ = apply(before, rank=8)
    stored = after.constants["w.up"].encoding
    assert isinstance(stored, Dense) and stored.storage is DType.F16
    assert after.constants["w.up"].type.dtype is DType.F32


@pytest.mark.parametrize("rounding", ["quantize-weights{bits=8}", "gptq{bits=8,group=8}"])
def test_factors_are_rounded_by_what_follows(rounding):
    before, data = program(K, make=linear), calls(16, K)
    after, records = parse_pipeline(["factorize-weights{rank=16,score=activation}", rounding]).run(
        before, calibration={"main": data}
    )
    assert {"w.up", "w.down"} == records[-1].errors.keys()
    assert max(records[-1].errors.values()) < 0.02
    plain, _ = apply(before, data, rank=16, score="activation")
    got, want = outputs(after, data)[0], outputs(plain, data)[0]
    assert float((got - want).norm() / want.norm()) < 0.02


# ------------------------------------------------------------------ options
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rank=4,error=0.1", "rank and error, need one of rank, error, ratio"),
        ("rank=-4", "rank=-4, need rank >= 1"),
        ("ratio=1.5", "ratio=1.5, need 0 < ratio < 1"),
        ("ratio=-1.0", "ratio=-1.0, need 0 < ratio < 1"),
        ("error=1.0", "error=1.0, need 0 < error < 1"),
        ("rank=4,multiple=0", "multiple=0, need multiple >= 1"),
        ("rank=4,damping=-1.0", "damping=-1.0, need 0 <= damping < 100"),
        ("ratio=2.0,multiple=0", "ratio=2.0, need 0 < ratio < 1; multiple=0"),
    ],
)
def test_wrong_options_are_told(text, told):
    with pytest.raises(PassError, match=told):
        parse_pass(f"factorize-weights{{{text}}}")


def test_text_patterns_and_calibration():
    spec = "factorize-weights{rank=64,score=activation}"
    made = parse_pass(spec)
    assert str(made) == spec and made.needs_calibration
    assert not parse_pass("factorize-weights").needs_calibration
    with pytest.raises(PassError, match="no data"):
        parse_pipeline([made]).run(program(K, make=linear))
    _, record = apply(program(K, make=linear), rank=4, include=("nope",))
    assert record.notes[0] == "pattern 'nope' matches no constant" and not record.modified


def test_the_result_is_the_same_every_time_and_the_argument_stays():
    before, data = two_layers(), calls(16, 96)
    text = before.text()
    first, second = (apply(before, data, ratio=0.6, score="activation")[0] for _ in range(2))
    assert not differs(first, second) and before.text() == text
