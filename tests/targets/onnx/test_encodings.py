"""Every encoding of a constant: decoded bit for bit, used in place, stored in its own bytes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import hypothesis
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import strategies as st

import edgec.ops  # noqa: F401 - registers the op set
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    DType,
    Encoding,
    Lut,
    Program,
    Range,
    Sparse,
    TensorType,
)
from edgec.target import Support
from edgec.targets.onnx import Onnx
from tests.cases.encodings import encodings
from tests.cases.rounding import agree, rounding
from tests.cases.weights import ENCODINGS, K, N, program_with, random_affine, reshaped


def run(program: Program, folder: Path, *inputs: torch.Tensor, **options: str) -> torch.Tensor:
    target = Onnx(**options)  # type: ignore[arg-type]
    target.emit(target.legalize(program), folder)
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    (result,) = Onnx.load(folder).run("main", list(inputs))
    return result


def optimized_ops(folder: Path) -> list[str]:
    """Operators that are left when onnxruntime has opened the file."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized" / "model.onnx")
    (folder / "optimized").mkdir()
    ort.InferenceSession(str(folder / "model.onnx"), options)
    model = onnx.load(folder / "optimized" / "model.onnx", load_external_data=False)
    return [node.op_type for node in model.graph.node]


# ------------------------------------------------------------------ decoding
@hypothesis.settings(max_examples=80)
@hypothesis.given(encodings())
def test_the_graph_decodes_bit_for_bit(encoding: Encoding) -> None:
    """Any encoding, nested or not: what onnxruntime computes on opening is `decode`."""
    b = Builder.new("main", [], {"w": Constant("w", encoding)})
    graph = b.finish(["@w"])
    program = Program({"main": graph}, graph.constants).verify()
    with tempfile.TemporaryDirectory() as folder:
        got = run(program, Path(folder))
    want = encoding.decode()
    assert got.dtype == want.dtype
    assert torch.equal(got, want)


@hypothesis.settings(max_examples=40)
@hypothesis.given(encodings(), st.sampled_from([DType.F16, DType.BF16]))
def test_decoding_to_half_precision(encoding: Encoding, dtype: DType) -> None:
    """A constant that its consumers see in 16 bits is rounded once, at the end."""
    if not isinstance(encoding, Affine | Lut):
        return
    half = dataclasses.replace(encoding, dtype=dtype)
    b = Builder.new("main", [], {"w": Constant("w", half)})
    graph = b.finish([b.cast("@w", dtype=DType.F32)])
    with tempfile.TemporaryDirectory() as folder:
        got = run(Program({"main": graph}, graph.constants).verify(), Path(folder))
    assert torch.equal(got, half.decode().float())


# ------------------------------------------------------------------ each encoding in each place
PLACES = {
    "step": ("linear", "batch, 1"),
    "sequence": ("linear", "batch, length"),
    "gather": ("gather", ""),
}
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS.keys())


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.dtype == torch.float32 and agree(got, want, rounding(want, K))


@pytest.mark.parametrize("place", PLACES)
@each_encoding
def test_in_linear_and_gather(encoding: Encoding, place: str, tmp_path: Path) -> None:
    compare(encoding, place, "auto", tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("weights", ["packed", "dense"])
@pytest.mark.parametrize("name", ["affine4 g32", "affine4 g48 zero", "affine2 g32", "affine8"])
def test_both_forms_of_packed_weights(name: str, weights: str, place: str, tmp_path: Path) -> None:
    compare(ENCODINGS[name], place, weights, tmp_path)


def compare(encoding: Encoding, place: str, weights: str, tmp_path: Path) -> None:
    op, rows = PLACES[place]
    program = program_with(encoding, op, rows)
    g = torch.Generator().manual_seed(1)
    if op == "gather":
        x = torch.randint(0, N, (3, 5), generator=g)
    else:
        x = torch.randn((2, 1 if place == "step" else 7, K), generator=g)
    got = run(program, tmp_path, x, weights=weights)
    (want,) = Interpreter(program, compute=torch.float64).run([x])
    if op == "gather":
        assert torch.equal(got, want.float())
    else:
        close(got, want)


@each_encoding
def test_in_conv(encoding: Encoding, tmp_path: Path) -> None:
    """The same rows as a convolution's weight: [N, C, 3]."""
    encoding = reshaped(encoding, (N, K // 3, 3))
    x = torch.randn(2, K // 3, 8, generator=torch.Generator().manual_seed(1))
    constants = {"w": Constant("w", encoding)}
    kind = TensorType.parse(f"f32[batch, {K // 3}, length]")
    b = Builder.new("main", [("x", kind)], constants, {"batch": Range(), "length": Range(3)})
    y = b.conv(b.input("x"), constants["w"], None, stride=(1,), padding=((1, 0),), dilation=(1,))
    program = Program({"main": b.finish([y])}, constants).verify()
    got = run(program, tmp_path, x)
    (want,) = Interpreter(program, compute=torch.float64).run([x])
    close(got, want)


# ------------------------------------------------------------------ bytes and form
@each_encoding
def test_stored_bytes_are_those_of_the_encoding(encoding: Encoding, tmp_path: Path) -> None:
    target = Onnx()
    program = target.legalize(program_with(encoding, "linear"))
    artifact = target.emit(program, tmp_path)
    stored = artifact.stored["w"]
    assert stored.nbytes == encoding.nbytes
    assert stored.support in (Support.NATIVE, Support.DECODED)
    assert stored.encoding == encoding.describe()
    model = onnx.load(tmp_path / "model.onnx")
    held = sum(len(t.raw_data) for t in model.graph.initializer if t.name.startswith("@"))
    assert held == encoding.nbytes


def test_int8_codes_stand_in_the_file_as_they_are(tmp_path: Path) -> None:
    encoding = random_affine(8)
    Onnx().emit(program_with(encoding, "linear"), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert torch.equal(torch.from_numpy(stored["@w/codes"].copy()), encoding.codes)
    assert stored["@w/scale"].dtype.name == "bfloat16"


FORMS = {
    ("f32", "step"): ["MatMul"],
    ("bf16", "sequence"): ["MatMul"],
    ("affine8", "step"): ["MatMul"],
    ("affine8", "gather"): ["Gather", "Cast", "Gather", "Mul"],
    ("affine4 g32", "step"): ["MatMulNBits"],
    ("affine4 g32", "sequence"): ["MatMul"],
    ("affine4 g32 zero", "step"): ["MatMulNBits"],
    ("affine4 g48 zero", "step"): ["MatMulNBits"],
    ("affine4", "step"): ["MatMulNBits"],
    ("affine4 g6", "step"): ["MatMul"],
    ("affine4 g32", "gather"): ["Gather", "Add", "GatherBlockQuantized"],
    ("affine2 g32", "step"): ["MatMulNBits"],
    ("affine3 g32 zero", "step"): ["MatMul"],
    ("lut4", "step"): ["MatMul"],
    ("two_four affine4", "step"): ["MatMul"],
    ("outliers affine4", "gather"): ["Gather"],
}


@pytest.mark.parametrize(("name", "place"), FORMS, ids=" ".join)
def test_nothing_is_decoded_at_run_time(name: str, place: str, tmp_path: Path) -> None:
    """Once onnxruntime has opened the file, all decoders are gone: they read constants alone."""
    Onnx().emit(program_with(ENCODINGS[name], *PLACES[place]), tmp_path)
    assert sorted(optimized_ops(tmp_path)) == sorted(FORMS[name, place])


@pytest.mark.parametrize("name", [n for n, p in FORMS if p == "gather"])
@pytest.mark.parametrize("index", [N, 99_999, -N - 1])
def test_indices_that_no_row_has_are_refused(name: str, index: int, tmp_path: Path) -> None:
    Onnx().emit(program_with(ENCODINGS[name], *PLACES["gather"]), tmp_path)
    ids = torch.zeros(2, 5, dtype=torch.int64)
    ids[1, 3] = index
    with pytest.raises(ValidationError):
        Onnx.load(tmp_path).run("main", [ids])


def test_accuracy_level_4_is_packed_everywhere_and_reported(tmp_path: Path) -> None:
    target = Onnx(accuracy_level=4)
    program = program_with(random_affine(8, 32), "linear", "batch, length")
    artifact = target.emit(program, tmp_path)
    assert optimized_ops(tmp_path) == ["MatMulNBits"]
    assert any("int8" in note for note in artifact.notes)
    x = torch.randn(2, 7, K, generator=torch.Generator().manual_seed(1))
    (got,) = Onnx.load(tmp_path).run("main", [x])
    (want,) = Interpreter(program).run([x])
    error = float((got - want).abs().max() / want.abs().max())
    assert 1e-5 < error < 0.02  # rounded activations: near, and not the same


def test_a_mask_that_keeps_nothing_takes_no_more_than_its_bits(tmp_path: Path) -> None:
    nothing = torch.zeros(N, K, dtype=torch.bool)
    program = program_with(Sparse("bitmask", nothing, random_affine(4, 32)), "linear", "batch, 1")
    got = run(program, tmp_path, torch.ones(2, 1, K))
    assert not got.any()
    model = onnx.load(tmp_path / "model.onnx")
    assert sum(len(t.raw_data) for t in model.graph.initializer) < N * K // 8
