"""factorize-embeddings: one table of fewer numbers a row, for gathers and for the output layer."""

from __future__ import annotations

import pytest
import torch

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.factorize_embeddings import FactorizeEmbeddings
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.programs import VOCABULARY, WIDTH, decoder, embedder


def ids(seed, *shape, high=VOCABULARY):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def apply(given: Program, calibration=None, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    made = FactorizeEmbeddings(**options)
    after, (record,) = parse_pipeline([made]).run(given, calibration=calibration)
    return after, record


def table(given: Program):
    return given.constants["table"].encoding.decode()


def product(given: Program):
    codes, basis = (given.constants[f"table.{n}"].encoding.decode() for n in ("codes", "basis"))
    return codes @ basis


def truncated(t, rank):
    u, s, v = torch.linalg.svd(t.double(), full_matrices=False)
    return (u[:, :rank] * s[:rank] @ v[:rank]).float()


def step_inputs(seed=0, past=3):
    memory = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(seed))
    return [ids(seed, 2, 1), memory, torch.randn(2, past, WIDTH)]


def test_all_functions_read_the_nearest_table_of_the_rank():
    """An embedding in two functions and the output layer of one, over one table."""
    before = decoder()
    after, record = apply(before, rank=8)
    reference = before.copy()
    near = truncated(table(before), 8)
    reference.constants["table"] = Constant("table", Dense(near))
    for function, inputs in (("encode", [ids(1, 2, 4)]), ("step", step_inputs())):
        got, want = (Interpreter(p).run(inputs, function) for p in (after, reference))
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product(after), near, rtol=1e-4, atol=1e-4)
    assert list(after.constants) == ["table.codes", "table.basis"]
    assert after.nbytes == 4 * 8 * (VOCABULARY + WIDTH)
    ops = [n.op.name for n in after.graphs["step"].nodes]
    assert ops == ["gather", "matmul", "concat", "concat", "reduce_mean", "linear", "linear"]
    error = float((near - table(before)).norm() / table(before).norm())
    assert record.errors == {"table": pytest.approx(error, abs=1e-5)}


def test_indices_that_are_computed_and_the_full_rank():
    before = embedder()
    after, _ = apply(before, rank=18)
    inputs = [ids(0, 3, 6), torch.ones(3, 6, dtype=torch.int64)]
    reference = before.copy()
    reference.constants["table"] = Constant("table", Dense(truncated(table(before), 18)))
    got, want = (Interpreter(p).run(inputs) for p in (after, reference))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_rows_that_are_read_often_are_nearer():
    before = decoder()
    calls = [[ids(s, 4, 6, high=5)] for s in range(5)]
    after, _ = apply(before, {"encode": calls}, rank=4, score="frequency", smoothing=0.01)
    plain, _ = apply(before, rank=4)
    lost, lost_plain = ((product(p) - table(before)).square().sum(1) for p in (after, plain))
    assert float(lost[:5].sum()) < 0.2 * float(lost_plain[:5].sum())
    assert float(lost.sum()) > float(lost_plain.sum())


def test_counts_are_those_of_all_functions():
    """Least squares with the counts of both functions' calls, by an independent formula."""
    before = decoder()
    calls = {"encode": [[ids(1, 2, 6, high=9)]], "step": [step_inputs(seed=3)]}
    after, _ = apply(before, calls, rank=5, score="frequency", smoothing=0.5)
    read = torch.cat([calls["encode"][0][0].flatten(), calls["step"][0][0].flatten()])
    counts = torch.bincount(read, minlength=VOCABULARY).double()
    counts += 0.5 * counts.mean()
    root = counts.sqrt().unsqueeze(1)
    want = truncated(root * table(before).double(), 5) / root
    torch.testing.assert_close(product(after), want.float(), rtol=1e-3, atol=1e-3)


def test_an_output_layer_that_shares_the_table_loses_less():
    """Its inputs have directions of their own, by an independent formula."""
    before = decoder()
    strong = torch.where(torch.arange(WIDTH) < 4, 30.0, 0.3)
    calls = {"encode": [[ids(1, 2, 6)]], "step": [step_inputs(seed=s) for s in range(9)]}
    for call in calls["step"]:
        call[1] = call[1] * strong
    scored, _ = apply(before, calls, rank=8, score="activation", balance=0.9)
    counted, _ = apply(before, calls, rank=8, score="frequency")

    def lost(made):
        pairs = ((Interpreter(p).run(c, "step")[0] for p in (made, before)) for c in calls["step"])
        return float(sum((a - b).square().sum() for a, b in pairs))

    assert lost(scored) < 0.3 * lost(counted)
    seen = [torch.cat([c[1], c[2], table(before)[c[0]]], 1).mean(1) for c in calls["step"]]
    x = torch.cat(seen).double()
    h = x.T @ x
    metric = 0.1 * torch.eye(WIDTH) + 0.9 * h / h.diagonal().mean()
    read = torch.cat([calls["encode"][0][0].flatten(), *(c[0].flatten() for c in calls["step"])])
    counts = torch.bincount(read, minlength=VOCABULARY).double()
    rows = (counts + counts.mean()).sqrt().unsqueeze(1)
    root = torch.linalg.cholesky(metric)
    want = truncated(rows * table(before).double() @ root, 8).double() / rows @ root.inverse()
    torch.testing.assert_close(product(scored), want.float(), rtol=1e-3, atol=1e-3)


def test_balance_counts_only_for_shared_tables():
    before = embedder()
    call = [ids(0, 3, 6), torch.ones(3, 6, dtype=torch.int64)]
    made = [
        apply(before, {"main": [call]}, rank=8, score=score)[0]
        for score in ("frequency", "activation")
    ]
    assert not differs(*made)


@pytest.mark.parametrize("rounding", ["", "quantize-weights{bits=8}", "gptq{bits=8}"])
def test_the_emitted_file_computes_the_same_and_factors_are_rounded(rounding, tmp_path):
    calls = {"encode": [[ids(1, 2, 6)]], "step": [step_inputs(seed=3)]}
    specs = ["factorize-embeddings{rank=16}", *filter(None, [rounding])]
    after, records = parse_pipeline(specs).run(decoder(), calibration=calls)
    if rounding:
        assert records[-1].errors.keys() == {"table.codes", "table.basis"}
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    loaded = target.load(tmp_path)
    for function, (inputs,) in calls.items():
        got, want = loaded.run(function, inputs), Interpreter(after).run(inputs, function)
        torch.testing.assert_close(list(got), list(want), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spread", ["all", "each"])
def test_a_ratio_is_held(spread):
    before = decoder()
    after, _ = apply(before, ratio=0.5, multiple=1, spread=spread)
    assert after.constants["table.codes"].type.shape == (VOCABULARY, 8)
    assert after.nbytes <= 0.5 * before.nbytes


def test_an_error_is_held():
    after, record = apply(decoder(), error=0.7, multiple=1)
    assert record.errors["table"] <= 0.7
    assert after.constants["table.codes"].type.shape[1] < 18


def one_index() -> Program:
    b = Builder.new("main", [("id", TensorType(DType.I64, ()))], {}, {})
    graph = b.finish([b.gather(b.constant(torch.randn(64, 16), "table"), b.input("id"))])
    return Program({"main": graph}, graph.constants).verify()


def test_what_cannot_be_factorized_is_left_and_told():
    _, record = apply(one_index(), rank=4)
    assert "@table: read by gather with one index or vector; left as it is" in record.notes
    assert record.notes[-1] == "nothing to do: no weight was factorized" and not record.modified

    b = Builder.new(
        "main", [("ids", TensorType(DType.I64, (symbol("n"),)))], {}, {"n": Range(1, 9)}
    )
    t = b.constant(torch.randn(64, 16), "table")
    graph = b.finish([b.add(b.gather(t, b.input("ids")), b.reduce_sum(t, axes=(0,)))])
    _, record = apply(Program({"main": graph}, graph.constants).verify(), rank=4)
    assert record.notes[0].startswith("@table: read by reduce_sum, in a way")


def test_a_rank_that_saves_nothing():
    _, record = apply(decoder(), rank=18)
    told = "@table: rank=18 of [40, 32]; need a rank <= 17, which saves bytes; left dense"
    assert told in record.notes
    with pytest.raises(PassError, match="@table: rank=18"):
        apply(decoder(), rank=18, misfits="fail")


def test_a_table_that_no_data_read_counts_all_rows_alike():
    before = decoder()
    pool = before.constants
    b = Builder.new("other", [("x", TensorType(DType.F32, (symbol("n"), 4)))], pool, {"n": Range()})
    before.graphs["other"] = b.finish([b.tanh(b.input("x"))])
    calls = {"other": [[torch.ones(2, 4)]]}
    after, record = apply(before, calls, rank=8, score="frequency")
    assert "@table: no calibration data read it; plain score" in record.notes
    torch.testing.assert_close(product(after), truncated(table(before), 8), rtol=1e-4, atol=1e-4)


def test_a_table_that_is_not_finite_is_left():
    before = decoder()
    broken = table(before).clone()
    broken[3, 3] = torch.inf
    before.constants["table"] = Constant("table", Dense(broken))
    for options in ({"rank": 4}, {"ratio": 0.5}):
        after, record = apply(before, **options)
        assert any("NaN or infinite weights" in n for n in record.notes)
        assert not differs(before, after)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rank=4,ratio=0.5", "rank and ratio, need one of"),
        ("smoothing=0.0", "smoothing=0.0, need smoothing > 0"),
        ("balance=1.0", "balance=1.0, need 0 <= balance < 1"),
        ("ratio=1.0", "ratio=1.0, need 0 < ratio < 1"),
    ],
)
def test_wrong_options_are_told(text, told):
    with pytest.raises(PassError, match=told):
        parse_pass(f"factorize-embeddings{{{text}}}")


def test_text_and_calibration():
    spec = "factorize-embeddings{rank=64,score=frequency}"
    made = parse_pass(spec)
    assert str(made) == spec and made.needs_calibration
    with pytest.raises(PassError, match="no data"):
        parse_pipeline([made]).run(decoder())


def test_the_result_is_the_same_every_time_and_the_argument_stays():
    before = decoder()
    text = before.text()
    first, second = (apply(before, ratio=0.5)[0] for _ in range(2))
    assert not differs(first, second) and before.text() == text
