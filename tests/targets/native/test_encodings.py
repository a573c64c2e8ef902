"""Every encoding of a constant: read by kernels from its packed form, stored in its own bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis
import pytest
import torch

from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    Dense,
    DType,
    Encoding,
    Graph,
    Lut,
    Outliers,
    Program,
    Range,
    Sparse,
    TensorType,
)
from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.kernels.panels import BEHIND_TABLE, DEPTH
from edgec.runtime.container_reader import read_container
from edgec.runtime.model import Model
from edgec.target import Artifact, Support
from edgec.targets.native import Native
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.weights import Weights
from tests.cases.encodings import encodings
from tests.cases.rounding import agree, rounding
from tests.cases.weights import ENCODINGS, K, N, program_with, random_affine, reshaped

# One of each kind; the others run with `-m slow`.
DEFAULT = {"bf16", "affine4 g32 zero", "lut4", "two_four affine4", "outliers affine4"}
each_encoding = pytest.mark.parametrize(
    "name", [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ENCODINGS]
)


def uses_of(encoding: Encoding) -> Program:
    """One constant `w`, a function for each use; and its values as a weight `conv` of taps."""
    constants = {"w": Constant("w", encoding)}
    constants["conv"] = Constant("conv", reshaped(encoding, (N, K // 3, 3)))
    dims = {"batch": Range(1, 8), "length": Range(1, 12)}
    kinds = {
        "linear": f"f32[batch, length, {K}]",
        "gather": "i64[batch, 5]",
        "decode": f"f32[batch, {K}]",
        "conv": f"f32[batch, {K // 3}, length]",
        "matmul": f"f32[batch, {N}]",
    }
    program = Program({}, constants)
    for use, kind in kinds.items():
        b = Builder.new(use, [("x", TensorType.parse(kind))], constants, dict(dims))
        x, w = b.input("x"), constants["w"]
        if use == "linear":
            y = b.linear(x, w, None)
        elif use == "gather":
            y = b.gather(w, x)
        elif use == "decode":
            y = b.add(b.reshape(x, shape=(*x.type.shape[:1], 1, K)), w)
        elif use == "matmul":
            y = b.matmul(x, w)
        else:
            pads = ((1, 1),)
            y = b.conv(x, constants["conv"], None, stride=(1,), padding=pads, dilation=(1,))
        program.graphs[use] = b.finish([y])
    return program.verify()


def emit(program: Program, folder: Path) -> Artifact:
    target = Native()
    return target.emit(target.legalize(program), folder)


def inputs_of(use: str) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "linear": [(2, 1, K), (2, 7, K)],
        "gather": [(3, 5)],
        "decode": [(2, K)],
        "conv": [(2, K // 3, 9)],
        "matmul": [(4, N)],
    }
    if use == "gather":
        return [torch.randint(0, N, s, generator=g) for s in shapes[use]]
    return [torch.randn(s, generator=g) for s in shapes[use]]


@each_encoding
def test_each_use_computes_what_the_encoding_means(name: str, tmp_path: Path) -> None:
    """On every instruction set of this machine."""
    program = uses_of(ENCODINGS[name])
    artifact = emit(program, tmp_path)
    exact = Interpreter(program, compute=torch.float64)
    calls = [(use, x, exact.run([x], use)[0]) for use in program.graphs for x in inputs_of(use)]
    for isa in host_sets():
        with opened(tmp_path, isa) as model:
            for use, x, want in calls:
                terms = {"decode": 1, "matmul": N}.get(use, K)
                tolerance = 0.0 if use == "gather" else rounding(want, terms)
                got = computed(model, program.graphs[use], x)
                assert got.dtype == torch.float32
                assert agree(got, want.float(), tolerance), (use, isa.name)
    for constant, stored in artifact.stored.items():
        encoding = program.constants[constant].encoding
        assert stored.support is encoding_verdict(encoding).support
        assert stored.encoding == encoding.describe()
        assert stored.nbytes == bytes_in_file(tmp_path, constant)


def opened(folder: Path, isa: InstructionSet) -> Model:
    (library,) = folder.glob(f"lib/{isa.triple}/*")
    return Model(library, folder / "model.weights", variant=isa.name)


def computed(model: Model, graph: Graph, x: torch.Tensor) -> torch.Tensor:
    env = graph.bind((tuple(x.shape),))
    sizes = [env.get(d.name, d.min) for d in model.functions[graph.name].dims]
    (got,) = model.run(graph.name, sizes, [x.numpy()])
    return torch.from_numpy(got)


def bytes_in_file(folder: Path, constant: str) -> int:
    """Bytes of all entries of a constant, as the weights file has them."""
    entries = read_container(folder / "model.weights").entries
    own = [e for n, e in entries.items() if n == constant or n.startswith(f"{constant}/")]
    return sum(e.data.nbytes for e in own)


# ------------------------------------------------------------------ bytes
def allowance(encoding: Encoding) -> int:
    """Bytes beyond `nbytes` that the packed form of [32 n, k] may take; for all else than zero
    points and outliers, those that it has to take."""
    match encoding:
        case Affine(zero=torch.Tensor() as zero):
            return zero.numel() - -(-zero.numel() * encoding.bits // 8)
        case Lut():
            return BEHIND_TABLE
        case Sparse():
            return allowance(encoding.values)
        case Outliers():
            n, k = (int(d) for d in encoding.type.shape)
            parts = n // 32 * -(-k // DEPTH)
            return allowance(encoding.base) + 4 * (parts + 1) + 2 * len(encoding.positions)
    return 0


@pytest.mark.parametrize("name", ENCODINGS)
def test_stored_bytes_are_those_of_the_encoding(name: str) -> None:
    """Of whole panels: 4 / 3 of the rows are stored where 24 are needed."""
    encoding = stacked(ENCODINGS[name])
    constant = Constant("w", encoding)
    weights = Weights({"w": constant})
    weights.panels(constant)
    stored = weights.stored("f")["w"]
    extra = stored.nbytes - encoding.nbytes
    most = allowance(encoding)
    assert 0 < extra <= most if isinstance(encoding, Outliers) else extra == most
    wanted = Support.NATIVE if name == "f32" else Support.DECODED
    assert stored.support is wanted and stored.encoding == encoding.describe()


def stacked(encoding: Encoding) -> Encoding:
    """Four times the rows of an encoding of 24: 96, which are three panels."""

    def four(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor] * 4)

    match encoding:
        case Dense():
            return Dense(four(encoding.values), encoding.as_dtype)
        case Affine():
            zero = None if encoding.zero is None else four(encoding.zero)
            codes, scale = four(encoding.codes), four(encoding.scale)
            return dataclasses.replace(encoding, codes=codes, scale=scale, zero=zero)
        case Lut():
            return dataclasses.replace(encoding, codes=four(encoding.codes))
        case Sparse():
            values = stacked(encoding.values)
            return dataclasses.replace(encoding, mask=four(encoding.mask), values=values)
        case Outliers():
            places = [encoding.positions + i * encoding.base.numel for i in range(4)]
            return Outliers(stacked(encoding.base), torch.cat(places), four(encoding.values))
    raise AssertionError(encoding.kind)


@hypothesis.settings(max_examples=60)
@hypothesis.given(encodings())
def test_what_is_said_of_an_encoding_is_what_is_stored(encoding: Encoding) -> None:
    """Any encoding of f32, nested or not, packed; `verdict` and record agree."""
    constant = Constant("w", encoding)
    weights = Weights({"w": constant})
    weights.panels(constant)
    stored = weights.stored("f")["w"]
    verdict = encoding_verdict(encoding)
    assert (stored.support, stored.reason) == (verdict.support, verdict.reason)


def test_what_kernels_cannot_decode_is_widened_and_noted(tmp_path: Path) -> None:
    half = dataclasses.replace(random_affine(4, 32), dtype=DType.F16)
    b = Builder.new("main", [("x", TensorType.parse("f16[2, 96]"))], {"w": Constant("w", half)})
    program = Program({"main": b.finish([b.linear(b.input("x"), "@w", None)])}, b.graph.constants)
    artifact = emit(program.verify(), tmp_path)
    assert artifact.stored["w"].support is Support.WIDENED
    assert artifact.stored["w"].nbytes == 2 * N * K
    assert artifact.notes == ("w: kernels decode to f32 only: decoded at build time",)
    x = torch.randn(2, K, generator=torch.Generator().manual_seed(0)).half()
    (got,), (want,) = Native.load(tmp_path).run("main", [x]), Interpreter(program).run([x])
    torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-3)


def test_a_tied_constant_is_stored_once(tmp_path: Path) -> None:
    encoding = random_affine(8)
    constants = {"w": Constant("w", encoding)}
    b = Builder.new("main", [("ids", TensorType.parse("i64[3]"))], constants)
    rows = b.gather("@w", b.input("ids"))
    program = Program({"main": b.finish([b.linear(rows, "@w", None)])}, constants).verify()
    artifact = emit(program, tmp_path)
    panels = -(-N // 32) * 32
    assert artifact.stored["w"].nbytes == panels * (K + 2)
    assert not artifact.notes


@pytest.mark.parametrize("index", [N, 99_999, -1])
def test_indices_that_no_row_has_are_refused(index: int, tmp_path: Path) -> None:
    emit(program_with(ENCODINGS["affine4 g32"], "gather"), tmp_path)
    ids = torch.zeros(2, 5, dtype=torch.int64)
    ids[1, 3] = index
    with pytest.raises(ValidationError, match=rf"got {index} at 8; need 0 <= id < 24"):
        Native.load(tmp_path).run("main", [ids])
