"""The file form: the same program comes back, and nothing else than an unchanged file is read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch

from edgec.errors import BuildError, FormatError, VerifyError
from edgec.interpreter import Interpreter
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    Dense,
    DType,
    Graph,
    Lut,
    Outliers,
    Program,
    Range,
    Sparse,
    State,
    TensorType,
    symbol,
)
from edgec.ir import file as form
from edgec.transform import differs

JSON, DATA = form.JSON_NAME, form.DATA_NAME


def compressed_constants(generator: torch.Generator) -> dict[str, Constant]:
    """One constant of each encoding, and one nested three deep."""
    codes = torch.randint(-8, 8, (8, 8), generator=generator, dtype=torch.int8)
    scale = torch.rand(8, 2, generator=generator).add(0.1).bfloat16()
    zero = torch.randint(-8, 8, (8, 2), generator=generator, dtype=torch.int8)
    affine = Affine(codes, scale, zero, bits=4, group=4)
    index = torch.randint(0, 4, (8, 4), generator=generator, dtype=torch.uint8)
    table = torch.randn(2, 1, 4, 2, generator=generator).half()
    mask = torch.tensor([True, False, False, True]).repeat(8, 2)
    plain = Affine(codes, scale[:, :1], bits=4)
    kept = Outliers(plain, torch.tensor([0, 40]), torch.tensor([9.0, -9.0]).bfloat16())
    encodings = {
        "wide": Dense(torch.randn(8, 8, generator=generator).half(), DType.F32),
        "grouped": affine,
        "palette": Lut(index, table, 2),
        "pruned": Sparse("two_four", mask, kept),
    }
    return {name: Constant(name, e) for name, e in encodings.items()}


def make_program() -> Program:
    """Two functions over one pool, with a state, named dimensions, nested trees and metadata."""
    import edgec.ops  # noqa: F401 - registers the ops

    constants = compressed_constants(torch.Generator().manual_seed(0))
    n = symbol("batch")
    rows = TensorType(DType.F32, (n, 8))
    b = Builder.new("encode", [("x", rows)], constants, {"batch": Range(1, 4)})
    b.source = "model.py:7"
    x = b.input("x")
    for name in ("wide", "grouped", "palette"):
        x = b.relu(b.linear(x, constants[name], b.constant(torch.zeros(8), "bias")))
    encode = b.finish([x], ["hidden"])
    encode.input_tree = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'
    b = Builder.new("step", [("x", rows), ("memory", rows)], constants, {"batch": Range(1, 4)})
    y = b.add(b.linear(b.input("x"), constants["pruned"], None), b.input("memory"))
    step = b.finish([y, y], ["out", "new_memory"])
    step.states = (State("memory", "new_memory"),)
    metadata = {"task": "none", "generation": {"eos": 3, "forbidden": [1, 2]}, "name": "Größe"}
    return Program({"encode": encode, "step": step}, constants, metadata).verify()


@pytest.fixture(scope="module")
def program() -> Program:
    return make_program()


@pytest.fixture()
def folder(program: Program, tmp_path: Path) -> Path:
    program.save(tmp_path)
    return tmp_path


# ------------------------------------------------------------------ round trip
def test_the_same_program_comes_back(program: Program, folder: Path):
    again = Program.load(folder)
    assert not differs(program, again)
    assert again.text() == program.text()
    assert again.metadata == program.metadata
    for name, graph in program.graphs.items():
        loaded = again.graphs[name]
        assert loaded.constants is again.constants
        assert (loaded.dims, loaded.states) == (graph.dims, graph.states)
        assert (loaded.input_tree, loaded.output_tree) == (graph.input_tree, graph.output_tree)
        assert [n.source for n in loaded.nodes] == [n.source for n in graph.nodes]
    for name, constant in program.constants.items():
        assert type(again.constants[name].encoding) is type(constant.encoding)
        assert again.constants[name].encoding.digest == constant.encoding.digest


def test_a_loaded_program_computes_the_same(program: Program, folder: Path):
    inputs = [torch.randn(3, 8, generator=torch.Generator().manual_seed(1))]
    again = Program.load(folder)
    want = Interpreter(program).run(inputs, "encode")
    assert torch.equal(Interpreter(again).run(inputs, "encode")[0], want[0])


def test_saving_is_deterministic(program: Program, folder: Path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Program.load(folder).save(other)
    for name in (JSON, DATA):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_the_folder_holds_nothing_else(folder: Path):
    assert sorted(p.name for p in folder.iterdir()) == [DATA, JSON]


def test_compressed_constants_are_stored_packed(program: Program, folder: Path):
    data = safetensors.torch.load((folder / DATA).read_bytes())
    stored = sum(t.numel() * t.element_size() for t in data.values())
    assert stored == sum(c.encoding.nbytes for c in program.constants.values())


def test_unused_constants_and_constants_that_share_memory_survive(tmp_path: Path):
    program = make_program()
    shared = torch.arange(8.0)
    program.constants["left"] = Constant("left", Dense(shared[:4]))
    program.constants["right"] = Constant("right", Dense(shared[2:6]))
    program.save(tmp_path)
    again = Program.load(tmp_path)
    assert list(again.constants) == list(program.constants)
    assert torch.equal(again.constants["right"].encoding.decode(), shared[2:6])


@pytest.mark.parametrize("dtype", list(DType))
def test_every_dtype_and_odd_values_survive(dtype: DType, tmp_path: Path):
    values = torch.tensor(
        [0.0, -0.0, 1.0, float("inf"), float("nan")] if dtype.is_float else [0, 1]
    )
    dense = Dense(values.to(dtype.torch_dtype))
    empty = Dense(torch.zeros(0, 3, dtype=dtype.torch_dtype))
    scalar = Dense(torch.ones((), dtype=dtype.torch_dtype))
    constants = {n: Constant(n, e) for n, e in [("a", dense), ("b", empty), ("c", scalar)]}
    outputs = tuple(c.ref for c in constants.values())
    graph = Graph("main", (), [], outputs, ("a", "b", "c"), constants)
    program = Program({"main": graph}, constants)
    program.save(tmp_path)
    again = Program.load(tmp_path)
    for name, constant in constants.items():
        assert again.constants[name].encoding.digest == constant.encoding.digest


# ------------------------------------------------------------------ what cannot be saved
@pytest.mark.parametrize(
    "metadata", [{"path": Path("x")}, {"t": (1, 2)}, {1: 2}, {"x": float("nan")}]
)
def test_metadata_that_is_no_json_is_refused(metadata, tmp_path: Path):
    program = make_program()
    program.metadata = metadata
    with pytest.raises(VerifyError, match="JSON values"):
        program.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_that_the_text_cannot_carry_are_refused(tmp_path: Path):
    program = make_program()
    program.graphs["encode"].output_names = ("not a name",)
    with pytest.raises(VerifyError, match="text form"):
        program.save(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_build_error(program: Program, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="a folder that can be written to"):
        program.save(tmp_path / "file")


def test_a_failed_write_leaves_the_program_that_was_there(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full_disk(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(BuildError, match="No space left"):
        program.save(folder)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    Program.load(folder)


# ------------------------------------------------------------------ damage
def test_missing_files_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(FormatError, match=r"nowhere.*No such file"):
        Program.load(tmp_path / "nowhere")
    (folder / DATA).unlink()
    with pytest.raises(FormatError, match=DATA):
        Program.load(folder)


@pytest.mark.parametrize("name", [JSON, DATA])
def test_truncated_and_extended_files_are_refused(folder: Path, name: str):
    whole = (folder / name).read_bytes()
    cuts = {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}
    for damaged in [*(whole[:n] for n in sorted(cuts)), whole + b"\0", whole + b"\n"]:
        (folder / name).write_bytes(damaged)
        with pytest.raises(FormatError):
            Program.load(folder)


@pytest.mark.parametrize("name", [JSON, DATA])
def test_a_flipped_bit_anywhere_is_refused(folder: Path, name: str):
    """A bit of every region of some bytes, so that each part of the file is hit."""
    whole = (folder / name).read_bytes()
    rng = random.Random(0)
    width = max(1, len(whole) // 150)
    for start in range(0, len(whole), width):
        damaged = bytearray(whole)
        damaged[min(start + rng.randrange(width), len(whole) - 1)] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(FormatError):
            Program.load(folder)


def test_another_version_and_another_kind_are_named(folder: Path):
    content = json.loads((folder / JSON).read_text())
    for key, value, message in [
        ("version", 2, "version 2; need version 1; update edgec"),
        ("format", "other", "format='other'"),
    ]:
        (folder / JSON).write_text(json.dumps({**content, key: value}))
        with pytest.raises(FormatError, match=message):
            Program.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "\xff", "[" * 100_000, '{"a": 1' + "0" * 5000]
)
def test_what_is_no_program_at_all_is_refused(folder: Path, text: str):
    (folder / JSON).write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError):
        Program.load(folder)


# ------------------------------------------------------------------ hostile files with right hashes
def forge(folder: Path, change) -> None:
    """Rewrite program.json after `change(content)`, with hashes that fit again."""
    content = json.loads((folder / JSON).read_text())
    del content["sha256"]
    change(content)
    (folder / JSON).write_text(form._serialize({**content, "sha256": form._hash(content)}))


def put(*path, value):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def drop(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def replace_text(old: str, new: str):
    def change(content):
        text = "\n".join(content["text"])
        assert old in text
        content["text"] = text.replace(old, new, 1).split("\n")

    return change


def test_an_unchanged_forgery_loads(folder: Path):
    forge(folder, lambda content: None)
    Program.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        put("unknown", value=1),
        put("text", value="func"),
        put("text", value=[]),
        put("text", value=["func @encode(%x: f32[batch, 8]) {"]),
        put("metadata", value=[]),
        put("trees", value={}),
        put("trees", "encode", value=["", 3]),
        put("trees", "encode", value=["no json", ""]),
        put("trees", "encode", value=['[1, {"type": "collections.defaultdict"}]', ""]),
        put("constants", "grouped", "type", value="f32[8, 9]"),
        put("constants", "grouped", "bytes", value=1),
        put("constants", "grouped", "digest", value="0" * 64),
        put("constants", "grouped", "encoding", "bits", value=3),
        put("constants", "grouped", "encoding", "shape", value=[4, 16]),
        put("constants", "grouped", "encoding", "kind", value="dense"),
        put("constants", "grouped", "parts", value=["codes"]),
        put("constants", "grouped", "parts", value=["codes", "scale", "zero", "codes"]),
        put("constants", "grouped", "more", value=0),
        put("constants", "more", value={}),
        put("data", "bytes", value=-1),
        put("data", value=None),
        drop("constants", "grouped"),
        drop("metadata"),
        drop("trees"),
        drop("data", "sha256"),
        replace_text("linear(%x, @wide", "linear(%x, @nothing"),
        replace_text("linear(%x, @wide", "linear(%later, @wide"),
        replace_text("= linear(", "= frobnicate("),
        replace_text("relu(%linear)", "relu(%linear, %linear)"),
        replace_text("relu(%linear)", "relu(%linear) {axis=1}"),
        replace_text("f32[batch, 8]", "f32[batch, 9]"),
        replace_text("f32[batch, 8]", "f32[batch, " + "(" * 5000 + "1" + ")" * 5000 + "]"),
        replace_text("f32[batch, 8]", "f32[9**9**9**9, 8]"),
        replace_text("f32[batch, 8]", "f32[(batch + 1)**9999999, 8]"),
        replace_text("f32[batch, 8]", "f32[batch//0, 8]"),
        replace_text(
            "f32[batch, 8]", "f32[" + "*".join(f"(a{i}+b{i})" for i in range(60)) + ", 8]"
        ),
        replace_text("f32[batch, 8]", "f32[__import__('os'), 8]"),
        replace_text("batch: 1..4", "batch: 1..x"),
        replace_text("batch: 1..4", "other: 1..4"),
        replace_text("return", "retrun"),
        replace_text(" as hidden", ""),
        replace_text("state memory <- new_memory", "state memory <- nothing"),
        replace_text("func @step", "func @encode"),
    ],
)
def test_hostile_files_are_refused(folder: Path, change):
    forge(folder, change)
    with pytest.raises(FormatError):
        Program.load(folder)


def test_hostile_data_files_are_refused(folder: Path):
    """A data file that is another safetensors file, or none at all, with a right hash."""
    import hashlib

    header = b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}'
    tensors = safetensors.torch.load((folder / DATA).read_bytes())
    wrong_dtype = {**tensors, "grouped:scale": tensors["grouped:scale"].float()}
    for data in [
        b"",
        b"\xff" * 64,
        (2**60).to_bytes(8, "little") + b"{}",
        len(header).to_bytes(8, "little") + header + bytes(4),
        safetensors.torch.save({}),
        safetensors.torch.save({**tensors, "more:values": torch.zeros(1)}),
        safetensors.torch.save(wrong_dtype),
    ]:
        (folder / DATA).write_bytes(data)
        described = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        forge(folder, put("data", value=described))
        with pytest.raises(FormatError):
            Program.load(folder)


def test_random_damage_with_right_hashes_never_crashes(folder: Path):
    """Characters of the text replaced at random: a FormatError, or a program that verifies."""
    whole = (folder / JSON).read_text()
    rng = random.Random(1)
    for _ in range(60):
        (folder / JSON).write_text(whole)

        def change(content):
            lines = content["text"]
            i = rng.randrange(len(lines))
            at = rng.randrange(len(lines[i]))
            lines[i] = (
                lines[i][:at] + rng.choice("[](){}%@,:=# 09ax.*-\"'\\\n") + lines[i][at + 1 :]
            )

        forge(folder, change)
        try:
            Program.load(folder).verify()
        except FormatError:
            continue
