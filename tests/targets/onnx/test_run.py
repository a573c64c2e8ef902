"""Opening and executing: inputs that do not fit, intermediate values, damaged and foreign files."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgec.errors import FormatError, ValidationError
from edgec.interpreter import Interpreter
from edgec.targets.onnx import Onnx
from edgec.targets.onnx.files import WEIGHTS
from tests.targets.onnx import seq2seq


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Onnx().emit(Onnx().legalize(seq2seq.program("int8")), tmp_path)
    return tmp_path


def test_signatures_come_from_the_files(folder: Path) -> None:
    functions = Onnx.load(folder).functions
    assert list(functions) == ["encode", "step"]
    assert [v.name for v in functions["step"].inputs] == ["token", "past_key", "memory"]
    assert str(functions["step"].outputs[1].type) == "f32[batch, 2, past + 1, 32]"
    assert functions["step"].dims["past"].max == 32


# ------------------------------------------------------------------ inputs
def test_an_unknown_function(folder: Path) -> None:
    with pytest.raises(ValidationError, match="got decode; need one of encode, step"):
        Onnx.load(folder).run("decode", [])


def test_a_dim_outside_of_its_range(folder: Path) -> None:
    with pytest.raises(ValidationError, match="src = 40, need 1 <= src <= 32"):
        Onnx.load(folder).run("encode", seq2seq.inputs("encode", src=40))


def test_a_wrong_dtype_and_a_wrong_shape(folder: Path) -> None:
    executable = Onnx.load(folder)
    with pytest.raises(ValidationError, match="ids: float32, need i64"):
        executable.run("encode", [torch.zeros(1, 3)])
    with pytest.raises(ValidationError, match=r"ids: shape \[3\], need i64\[batch, src\]"):
        executable.run("encode", [torch.zeros(3, dtype=torch.int64)])


def test_an_index_outside_of_its_table(folder: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        Onnx.load(folder).run("encode", [torch.full((1, 2), 10_000)])
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ intermediate values
@pytest.mark.parametrize("form", seq2seq.FORMS)
def test_values_are_those_of_the_interpreter(form: str, tmp_path: Path) -> None:
    target, program = Onnx(), seq2seq.program(form)
    program = target.legalize(program)
    target.emit(program, tmp_path)
    inputs = seq2seq.inputs("step")
    found = Onnx.load(tmp_path).values("step", inputs)
    seen: dict[str, torch.Tensor] = {}
    Interpreter(program).run(
        inputs, "step", lambda node, made: seen.update({node.output.name: made[0]})
    )
    assert len(found) > 10 and set(found) <= set(seen)
    for name, value in found.items():
        torch.testing.assert_close(value, seen[name], rtol=1e-5, atol=2e-6)


def test_values_by_name(folder: Path) -> None:
    executable, inputs = Onnx.load(folder), seq2seq.inputs("encode")
    found = executable.values("encode", inputs, ["gelu", "gather"])
    assert list(found) == ["gelu", "gather"]
    assert found["gather"].shape == (2, 5, seq2seq.E)
    with pytest.raises(ValidationError, match="got nothing; need values that the model still has"):
        executable.values("encode", inputs, ["nothing"])


def test_outputs_are_known_by_their_name_in_the_graph(folder: Path) -> None:
    program = seq2seq.program("int8")
    inputs = seq2seq.inputs("encode")
    name = program.graphs["encode"].outputs[0]
    assert name != "memory"
    executable = Onnx.load(folder)
    (output,) = executable.run("encode", inputs)
    torch.testing.assert_close(executable.values("encode", inputs, [name])[name], output)


# ------------------------------------------------------------------ damage
def fails(folder: Path) -> str:
    with pytest.raises(FormatError) as caught:
        Onnx.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "no .onnx file" in fails(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_model(share: float, folder: Path) -> None:
    path = folder / "step.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "step.onnx" in fails(folder)


def test_a_text_file(folder: Path) -> None:
    (folder / "step.onnx").write_text("this is no model\n")
    assert "step.onnx" in fails(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    fails(folder)


@pytest.mark.parametrize("size", [0, 100, -64])
def test_truncated_weights(size: int, folder: Path) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:size])
    fails(folder)


def test_flipped_bits_never_crash(folder: Path) -> None:
    """A changed byte gives an error of one line, or a model: what it computes, hashes find out."""
    path = folder / "step.onnx"
    content = bytearray(path.read_bytes())
    for position in range(3, len(content), len(content) // 60):
        flipped = bytearray(content)
        flipped[position] ^= 0x11
        path.write_bytes(flipped)
        try:
            executable = Onnx.load(folder)
            executable.run("step", seq2seq.inputs("step"))
        except (FormatError, ValidationError) as error:
            assert "\n" not in str(error)


def test_a_foreign_model(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    assert "without a signature" in fails(tmp_path)


def test_a_signature_of_another_model(folder: Path) -> None:
    model = onnx.load(folder / "encode.onnx", load_external_data=False)
    other = onnx.load(folder / "step.onnx", load_external_data=False)
    del model.metadata_props[:]
    model.metadata_props.extend(other.metadata_props)
    (folder / "encode.onnx").write_bytes(model.SerializeToString())
    assert "those of its signature" in fails(folder)


def with_property(path: Path, key: str, value: str) -> None:
    """The same model with other metadata, as a foreign tool may write it."""
    model = onnx.load(path, load_external_data=False)
    kept = {p.key: p.value for p in model.metadata_props} | {key: value}
    helper.set_model_props(model, kept)
    path.write_bytes(model.SerializeToString())


DEEP = pytest.param("[" * 100_000, id="deep")


@pytest.mark.parametrize("text", ["", "[1", "[]", "3", '{"a": 1}', DEEP])
def test_damaged_metadata(text: str, folder: Path) -> None:
    with_property(folder / "step.onnx", "edgec.renamed", text)
    assert "step.onnx" in fails(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name": "step"', '"name": "step", '),
        ('"past": [0, 32]', '"past": [0, 1e999]'),
        ('"past": [0, 32]', '"past": 3'),
        ('"past": [0, 32]', '"past": [5, -1]'),
        pytest.param("i64[batch, 1]", "i64[batch, " + "(" * 5000 + "1]", id="nested"),
        ("i64[batch, 1]", "i64[batch.x, 1]"),
    ],
)
def test_a_damaged_signature(old: str, new: str, folder: Path) -> None:
    path = folder / "step.onnx"
    model = onnx.load(path, load_external_data=False)
    (text,) = (p.value for p in model.metadata_props if p.key == "edgec.signature")
    assert old in text
    with_property(path, "edgec.signature", text.replace(old, new))
    fails(folder)


def test_changed_characters_of_a_signature_never_crash(folder: Path) -> None:
    path = folder / "step.onnx"
    model = onnx.load(path, load_external_data=False)
    (text,) = (p.value for p in model.metadata_props if p.key == "edgec.signature")
    for i in range(0, len(text), 7):
        with_property(path, "edgec.signature", f"{text[:i]}{chr(ord(text[i]) ^ 2)}{text[i + 1 :]}")
        try:
            Onnx.load(folder).run("step", seq2seq.inputs("step"))
        except (FormatError, ValidationError) as error:
            assert "\n" not in str(error)


def test_one_function_in_two_files(folder: Path) -> None:
    (folder / "another.onnx").write_bytes((folder / "step.onnx").read_bytes())
    assert "step.onnx" in fails(folder) and "another.onnx" in fails(folder)


@pytest.mark.parametrize("content", [None, b"", b"this is no model"])
def test_a_model_that_was_damaged_after_it_was_opened(content: bytes | None, folder: Path) -> None:
    executable = Onnx.load(folder)
    (folder / "step.onnx").unlink()
    if content is not None:
        (folder / "step.onnx").write_bytes(content)
    with pytest.raises(FormatError, match=r"step\.onnx"):
        executable.values("step", seq2seq.inputs("step"))
