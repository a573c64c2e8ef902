"""The written files: every weight once, aligned; metadata; the same bytes every time."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch

from edgec.errors import UnsupportedError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, Program, Range, TensorType
from edgec.target import Signature, Support
from edgec.targets.onnx import Onnx
from edgec.targets.onnx.files import ALIGNMENT, WEIGHTS
from tests.targets.onnx import seq2seq


def emitted(program: Program, folder: Path, **options):
    target = Onnx(**options)
    return target.emit(target.legalize(program), folder)


def one_function(program: Program, name: str) -> Program:
    return Program({name: program.graphs[name]}, program.constants).drop_unused_constants()


@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_functions_share_one_file_of_weights(form: str, tmp_path: Path) -> None:
    program = seq2seq.program(form)
    artifact = emitted(program, tmp_path)
    assert artifact.files == ("encode.onnx", "step.onnx", WEIGHTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(artifact.files)
    sizes = {n: c.encoding.nbytes for n, c in program.constants.items()}
    assert {n: s.nbytes for n, s in artifact.stored.items()} == sizes
    assert {s.file for s in artifact.stored.values()} == {WEIGHTS}
    padding = (tmp_path / WEIGHTS).stat().st_size - sum(sizes.values())
    assert 0 <= padding < ALIGNMENT * 2 * len(sizes)


@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_every_tensor_has_one_aligned_place(form: str, tmp_path: Path) -> None:
    emitted(seq2seq.program(form), tmp_path)
    places: dict[str, set[tuple[int, int]]] = {}
    for path in tmp_path.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            where = {e.key: e.value for e in tensor.external_data}
            if where:
                assert where["location"] == WEIGHTS
                span = int(where["offset"]), int(where["offset"]) + int(where["length"])
                places.setdefault(tensor.name, set()).add(span)
    assert all(len(spans) == 1 for spans in places.values())
    ordered = sorted(span for (span,) in places.values())
    assert all(start % ALIGNMENT == 0 for start, _ in ordered)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize("form", seq2seq.FORMS)
@pytest.mark.parametrize("past", [0, 3])
def test_functions_run_from_their_folder(form: str, past: int, tmp_path: Path) -> None:
    program = seq2seq.program(form)
    emitted(program, tmp_path)
    executable = Onnx.load(tmp_path)
    for function in ("encode", "step"):
        inputs = seq2seq.inputs(function, past=past)
        want = Interpreter(program).run(inputs, function)
        got = executable.run(function, inputs)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_stock_onnxruntime_opens_the_files_by_path(form: str, tmp_path: Path) -> None:
    emitted(seq2seq.program(form), tmp_path)
    for name in ("encode", "step"):
        path = tmp_path / f"{name}.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        tensors = zip(session.get_inputs(), seq2seq.inputs(name), strict=True)
        made = session.run(None, {i.name: t.numpy() for i, t in tensors})
        assert session.get_outputs()[0].name in ("memory", "logits")
        assert made[0].shape[0] == 2


@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_the_tied_table_stands_in_the_file_once(form: str, tmp_path: Path) -> None:
    """`step` reads the table twice: by gather, and as the output layer."""
    program = one_function(seq2seq.program(form), "step")
    artifact = emitted(program, tmp_path)
    assert artifact.files == ("model.onnx",)
    model = onnx.load(tmp_path / "model.onnx")
    held = {t.name: len(t.raw_data) for t in model.graph.initializer}
    table = sum(n for name, n in held.items() if name.startswith("@embed"))
    assert table == program.constants["embed"].encoding.nbytes
    large = [name for name, nbytes in held.items() if nbytes > 512]
    assert all(name.startswith("@") for name in large)


def test_compression_shows_in_the_bytes(tmp_path: Path) -> None:
    sizes = {}
    for form in seq2seq.FORMS:
        (folder := tmp_path / form).mkdir()
        artifact = emitted(seq2seq.program(form), folder)
        sizes[form] = (folder / WEIGHTS).stat().st_size
        supports = {n: s.support for n, s in artifact.stored.items()}
        assert supports["embed"] is (Support.NATIVE if form == "f32" else Support.DECODED)
    assert sizes["int8"] < 0.27 * sizes["f32"]
    assert sizes["int4"] < 0.17 * sizes["f32"]


@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_equal_programs_give_equal_bytes(form: str, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (folder := tmp_path / name).mkdir()
        emitted(seq2seq.program(form), folder)
        written.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert written[0] == written[1]


def test_metadata_tells_what_the_file_is(tmp_path: Path) -> None:
    program = seq2seq.program()
    emitted(program, tmp_path, opset=23)
    model = onnx.load(tmp_path / "step.onnx", load_external_data=False)
    assert (model.producer_name, model.graph.name) == ("edgec", "step")
    assert {o.domain: o.version for o in model.opset_import}[""] == 23
    properties = {p.key: p.value for p in model.metadata_props}
    assert len(properties["edgec.program"]) == 64
    assert properties["edgec.target"] == "onnx{opset=23}"
    assert "edgec.recipe" not in properties, "nobody told the target"
    signature = Signature.from_json(properties["edgec.signature"])
    assert signature == Signature.of(program.graphs["step"])
    assert json.loads(properties["edgec.signature"])["states"] == [["past_key", "present_key"]]
    assert str(tmp_path) not in (tmp_path / "step.onnx").read_bytes().decode("latin-1")


def test_named_dims_stay_dynamic_in_the_file(tmp_path: Path) -> None:
    emitted(seq2seq.program(), tmp_path)
    graph = onnx.load(tmp_path / "step.onnx", load_external_data=False).graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes["past_key"] == ["batch", 2, "past", 32]
    assert shapes["present_key"] == ["batch", 2, "past + 1", 32]


# ------------------------------------------------------------------ names and odd outputs
def build(*outputs: str, names: list[str]) -> Program:
    constants = {"w": Constant("w", Dense(torch.arange(6.0)))}
    kind = TensorType.parse("f32[n]")
    b = Builder.new("main", [("x", kind), ("y", kind)], constants, {"n": Range()})
    b.add(b.input("x"), b.input("y"), _name="total")
    b.relu("total", _name="out")
    return Program({"main": b.finish(list(outputs), names)}, constants).verify()


def test_inputs_constants_and_repeated_values_as_outputs(tmp_path: Path) -> None:
    program = build("x", "@w", "total", "total", names=["a", "b", "c", "d"])
    emitted(program, tmp_path)
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    x, y = torch.arange(3.0), torch.ones(3)
    got = Onnx.load(tmp_path).run("main", [x, y])
    for g, w in zip(got, (x, torch.arange(6.0), x + y, x + y), strict=True):
        assert torch.equal(g, w)


def test_an_output_may_have_the_name_of_another_value(tmp_path: Path) -> None:
    program = build("out", "total", names=["total", "out"])
    emitted(program, tmp_path)
    x, y = -torch.arange(3.0), torch.ones(3)
    got = Onnx.load(tmp_path).run("main", [x, y])
    assert torch.equal(got[0], torch.relu(x + y)) and torch.equal(got[1], x + y)


def test_one_name_for_an_input_and_an_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="x as input and output of main"):
        emitted(build("total", names=["x"]), tmp_path)
