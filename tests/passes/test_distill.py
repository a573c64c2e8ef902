"""distill: gives back what compression took, keeps every form, can be stopped and continued."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from edgec.context import Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, Constant, Dense, DType, Program, Range, State, TensorType
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.distill import Distill
from edgec.passes.training import Settings, chosen, rate, split
from edgec.sequences import Call, Calls, Replay
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.programs import BATCH, LENGTH, PAST, VOCABULARY, classifier, decoder

INT3 = "quantize-weights{bits=3,group=16,min_numel=0}"


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calls(count=24):
    return {"main": [[tensor(16, 64, seed=i)] for i in range(count)]}


def sequences(count=12, length=3):
    """Of the decoder: ids and tokens, the second row of a batch ends before the last token."""
    g = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        ids = torch.randint(0, VOCABULARY, (2, 5), generator=g)
        tokens = torch.randint(0, VOCABULARY, (length, 2, 1), generator=g)
        steps = [Call("step", {"token": t}) for t in tokens[:-1]]
        last = Call("step", {"token": tokens[-1]}, torch.tensor([True, False]))
        made.append([Call("encode", {"ids": ids}), *steps, last])
    return made


def lost(program: Program, original: Program, function="main", seed=99) -> float:
    """Mean square error on inputs that were not trained with."""
    x = [tensor(64, 64, seed=seed)]
    got, want = (Interpreter(p).run(x, function)[0] for p in (program, original))
    return float((got - want).square().mean())


# ------------------------------------------------------------------ what it gives
def test_it_gives_back_a_part_of_what_rounding_took_in_the_same_bytes(tmp_path) -> None:
    program = classifier()
    rounded, _ = parse_pipeline([INT3]).run(program)
    specs = [INT3, "distill{steps=120,batch=4,lr=0.01,every=20}"]
    made, records = parse_pipeline(specs).run(program, calibration=calls())
    assert lost(made, program) < 0.6 * lost(rounded, program)
    assert made.nbytes == rounded.nbytes
    for name, constant in rounded.constants.items():
        assert made.constants[name].encoding.describe() == constant.encoding.describe()
    assert records[-1].modified and set(records[-1].errors) >= {"layer0.weight", "layer0.bias"}
    assert any("held-out loss" in n for n in records[-1].notes)
    target = Onnx()
    target.emit(target.legalize(made), tmp_path)
    x = calls()["main"][0]
    (got,) = Onnx.load(tmp_path).run("main", x)
    torch.testing.assert_close(got, Interpreter(made).run(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["kl", "mse", "cosine"])
def test_every_loss_falls(loss) -> None:
    specs = [INT3, f"distill{{steps=60,batch=2,lr=0.01,loss={loss},every=20,temperature=2.0}}"]
    _, records = parse_pipeline(specs).run(classifier(), calibration=calls())
    (note,) = (n for n in records[-1].notes if "held-out" in n)
    first, best = (float(note.split()[i]) for i in (2, 4))
    assert best < 0.8 * first


def test_scales_alone_leave_the_codes() -> None:
    specs = [INT3, "distill{steps=20,codes=False,lr=0.01}"]
    rounded, _ = parse_pipeline([INT3]).run(classifier())
    made, _ = parse_pipeline(specs).run(classifier(), calibration=calls())
    before, after = (p.constants["layer0.weight"].encoding for p in (rounded, made))
    assert isinstance(before, Affine) and isinstance(after, Affine)
    assert torch.equal(before.codes, after.codes) and not torch.equal(before.scale, after.scale)


def test_patterns_say_what_is_trained() -> None:
    specs = [INT3, 'distill{steps=10,lr=0.01,include=["*bias"],skip=["nobody"]}']
    _, records = parse_pipeline(specs).run(classifier(), calibration=calls())
    assert set(records[-1].errors) == {"layer0.bias"}
    assert "pattern 'nobody' matches no constant" in records[-1].notes


def test_what_runs_in_sequences_is_trained_through_its_states() -> None:
    specs = ["quantize-weights{bits=2,min_numel=0}", "distill{steps=90,lr=0.01,loss=kl,every=10}"]
    given = Calls({"encode": [[torch.zeros(2, 5, dtype=torch.int64)]]}, sequences(60))
    _, records = parse_pipeline(specs).run(decoder(), calibration=given)
    (note,) = (n for n in records[-1].notes if "held-out" in n)
    first, best = (float(note.split()[i]) for i in (2, 4))
    assert best < 0.98 * first  # a table of 40 rows in 2 bits
    assert "compared with the original: step: logits" in records[-1].notes


def narrow() -> Program:
    """`decoder` with memories and caches of half the width."""
    pool: dict[str, Constant] = {}
    memory = TensorType(DType.F32, (BATCH, LENGTH, 16))
    sizes = {"batch": Range(1, 8), "length": Range(1, 16)}
    ids = TensorType(DType.I64, (BATCH, LENGTH))
    encode = Builder.new("encode", [("ids", ids)], pool, dict(sizes))
    encode.constant(tensor(VOCABULARY, 16, seed=1), "table")
    encode.finish([encode.tanh(encode.gather("@table", encode.input("ids")))], ["memory"])
    inputs = [
        ("token", TensorType(DType.I64, (BATCH, 1))),
        ("memory", memory),
        ("cache", TensorType(DType.F32, (BATCH, PAST, 16))),
    ]
    step = Builder.new("step", inputs, pool, sizes | {"past": Range(0, 15)})
    row = step.gather("@table", step.input("token"))
    cache = step.concat(step.input("cache"), row, axis=1)
    mean = step.reduce_mean(step.concat(step.input("memory"), cache, axis=1), axes=(1,))
    head = step.constant(tensor(VOCABULARY, 16, seed=2), "head")
    step.finish([step.linear(mean, head, None), cache], ["logits", "grown"])
    step.graph.states = (State("cache", "grown"),)
    return Program({"encode": encode.graph, "step": step.graph}, pool).verify()


def test_a_student_with_other_states_learns_from_its_own() -> None:
    given = Calls({"encode": [[torch.zeros(2, 5, dtype=torch.int64)]]}, sequences(100))
    context = Context(given, decoder())
    student = narrow()
    found = Distill(steps=150, lr=0.2, loss="kl", every=50).apply(student, context)
    assert found.modified and {"table", "head"} <= set(found.errors)
    replay, sequence = Replay(found.program.graphs), sequences(101)[-1]

    def logits(program):
        run = Interpreter(program).run
        return [
            o[0] for c, o in replay.run(sequence, lambda f, x: run(x, f)) if c.function == "step"
        ]

    wanted = Replay(decoder().graphs).run(sequence, lambda f, x: Interpreter(decoder()).run(x, f))
    want = [o[0].softmax(-1) for c, o in wanted if c.function == "step"]
    before, after = (
        sum(float((a.softmax(-1) - w).square().sum()) for a, w in zip(logits(p), want, strict=True))
        for p in (student, found.program)
    )
    assert after < 0.5 * before


def test_calls_that_fit_only_the_original_are_refused_or_left_out() -> None:
    step = [torch.zeros(2, 1, dtype=torch.int64), tensor(2, 5, 32), tensor(2, 1, 32)]
    encode = [torch.zeros(2, 5, dtype=torch.int64)]
    options = Distill(steps=2)
    with pytest.raises(PassError, match=r"calls that do not fit: step: .*give texts or sequences"):
        options.apply(narrow(), Context({"step": [step]}, decoder()))
    wide = parse_pipeline([INT3]).run(decoder())[0]
    found = options.apply(
        wide, Context({"step": [step, [t[:1] for t in step]], "encode": [encode]}, decoder())
    )
    assert any("encode: memory" not in n and "compared" in n for n in found.notes)


# ------------------------------------------------------------------ what it keeps
def test_where_no_step_is_better_the_program_stays() -> None:
    rounded, _ = parse_pipeline([INT3]).run(classifier())
    found = Distill(steps=3, lr=0.9, warmup=0.0, clip=0.0).apply(
        rounded, Context(calls(), classifier())
    )
    assert not found.modified and not differs(found.program, rounded)
    assert found.notes[-1] == "nothing to do: no step was better"


def test_the_original_has_nothing_to_learn() -> None:
    _, (record,) = parse_pipeline(["distill"]).run(classifier(), calibration=calls())
    assert not record.modified and record.notes == ("nothing to do: the program is the original",)


def test_nothing_selected_is_nothing_to_do() -> None:
    specs = [INT3, 'distill{include=["nobody"]}']
    _, records = parse_pipeline(specs).run(classifier(), calibration=calls())
    assert "nothing to do: no weight, bias or gain is selected" in records[-1].notes


def test_it_is_the_same_when_it_is_done_again() -> None:
    specs = [INT3, "distill{steps=12,lr=0.01,every=4}"]
    first, second = (
        parse_pipeline(specs).run(classifier(), calibration=calls())[0] for _ in range(2)
    )
    assert not differs(first, second)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_bit_by_bit(tmp_path) -> None:
    rounded, _ = parse_pipeline([INT3]).run(classifier())
    plain = Distill(steps=20, lr=0.01, every=4, batch=2)
    whole = plain.apply(rounded, Context(calls(), classifier()))

    def kill(done: int, total: int) -> None:
        if done == 14:
            raise Killed

    kept = replace(plain, checkpoint=str(tmp_path / "kept"))
    with pytest.raises(Killed):
        kept.apply(rounded, Context(calls(), classifier(), steps=kill))
    assert json.loads((tmp_path / "kept" / "state.json").read_text())["step"] == 12
    heard: list[int] = []
    rest = kept.apply(
        rounded, Context(calls(), classifier(), steps=lambda done, _: heard.append(done))
    )
    assert heard == list(range(13, 21))
    assert not differs(rest.program, whole.program) and rest.notes == whole.notes
    assert not list((tmp_path / "kept").glob("*.part"))


def test_a_checkpoint_of_something_else_or_damaged_is_refused(tmp_path) -> None:
    rounded, _ = parse_pipeline([INT3]).run(classifier())
    context = Context(calls(), classifier())
    Distill(steps=2, checkpoint=str(tmp_path)).apply(rounded, context)
    with pytest.raises(PassError, match=r"of other options, data or programs; need that of this"):
        Distill(steps=3, checkpoint=str(tmp_path)).apply(rounded, context)
    (state,) = tmp_path.glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:-5])
    with pytest.raises(PassError, match=r"which cannot be read: .*; need its files as written"):
        Distill(steps=2, checkpoint=str(tmp_path)).apply(rounded, context)


def test_a_time_limit_ends_it() -> None:
    specs = [INT3, "distill{steps=1000000,seconds=1.0,lr=0.01}"]
    _, records = parse_pipeline(specs).run(classifier(), calibration=calls())
    assert records[-1].seconds < 30


# ------------------------------------------------------------------ what it refuses
def exploding(scale=1.0) -> Program:
    b = Builder.new(
        "main", [("x", TensorType(DType.F32, (BATCH, 64)))], {}, {"batch": Range(1, 64)}
    )
    w = b.constant(tensor(4, 64) * scale, "w")
    graph = b.finish([b.exp(b.exp(b.linear(b.input("x"), w, None)))], ["y"])
    return Program({"main": graph}, graph.constants).verify()


def test_a_loss_that_is_no_number_names_the_step(tmp_path) -> None:
    options = Distill(steps=50, lr=0.9, warmup=0.0, checkpoint=str(tmp_path), every=1)
    with pytest.raises(
        PassError,
        match=r"\[distill\] got a (loss|gradient) of (nan|inf) at step \d+, the last good",
    ):
        options.apply(exploding(0.1), Context(calls(), exploding(0.2)))


def test_without_an_original_or_data_or_outputs_it_says_so() -> None:
    rounded, _ = parse_pipeline([INT3]).run(classifier())
    with pytest.raises(PassError, match="no original program; need one to learn from"):
        Distill().apply(rounded, Context(calls()))
    with pytest.raises(PassError, match="no calibration data"):
        Distill().apply(rounded, Context({}, classifier()))
    with pytest.raises(PassError, match="no output of one name and type in both programs"):
        Distill().apply(rounded, Context(calls(), classifier(classes=7)))


def test_all_wrong_options_are_listed() -> None:
    with pytest.raises(PassError) as error:
        Distill(steps=0, lr=2.0, batch=0, device="gpu7", temperature=0.0)
    for text in (
        "steps=0, need steps >= 1",
        "lr=2.0, need 0 < lr < 1",
        "batch=0, need batch >= 1",
        "temperature=0.0, need temperature > 0",
        "device=gpu7, need a device of torch",
    ):
        assert text in str(error.value)


def test_text_form() -> None:
    text = "distill{steps=10,lr=0.01,loss=kl,hidden=0.5}"
    assert str(parse_pass(text)) == text
    assert str(Distill()) == "distill"


# ------------------------------------------------------------------ training
def test_the_rate_rises_to_one_and_falls_to_zero() -> None:
    settings = Settings(100, warmup=0.1)
    found = [rate(settings, (i + 1) / 100) for i in range(100)]
    assert max(found) == found[9] and found[:10] == sorted(found[:10])
    assert found[9:] == sorted(found[9:], reverse=True) and found[-1] == pytest.approx(0)


def test_a_tenth_is_held_out_and_epochs_have_each_call_once() -> None:
    train, held = split(40, 0, 8)
    assert len(held) == 4 and sorted(train + held) == list(range(40))
    assert split(1, 0, 8) == ([0], [0])
    epoch = [i for step in range(9) for i in chosen(train, step, 4, 0)]
    assert sorted(epoch) == sorted(train)
    assert [i for step in range(9, 18) for i in chosen(train, step, 4, 0)] != epoch


def test_dense_weights_of_16_bits_are_trained_in_32() -> None:
    """A hundred steps, each too small for float16, arrive."""
    program = classifier()
    for name in ("layer0.weight", "layer1.weight"):
        w = program.constants[name].encoding.decode() * 1.02
        program.constants[name] = Constant(name, Dense(w.half(), DType.F32))
    found = Distill(steps=100, lr=3e-4, batch=4).apply(program, Context(calls(), classifier()))
    assert lost(found.program, classifier()) < 0.3 * lost(program, classifier())
