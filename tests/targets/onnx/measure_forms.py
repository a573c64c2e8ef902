"""The tables of targets/onnx/README.md that say which form a compressed weight takes, and why.

    python -m tests.targets.onnx.measure_forms

Every form holds the codes that quantize-weights chose; the forms take turns, and what counts is
the least CPU time of one thread. `deviation` is the greatest difference from the product with the
decoded weights, as a part of its greatest magnitude.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, parser

import edgec.ops  # noqa: F401 - registers the op set
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, Program, Range, TensorType, Value
from edgec.ops.activation_quantization import Activations
from edgec.passes import parse_pipeline
from edgec.targets.onnx import Onnx, packed
from edgec.targets.onnx.writer import to_proto

N, K, TURNS = 8000, 256, 12
INT8, INT4 = "quantize-weights{bits=8}", "quantize-weights{bits=4,group=32}"
Write: TypeAlias = Callable[[Program, Path], object]  # writes one model.onnx
Forms: TypeAlias = dict[str, tuple[Program, Write]]
Feeds: TypeAlias = Mapping[str, torch.Tensor]


def table() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0))


def gather(spec: str = "") -> Program:
    b = Builder.new("main", [("x", TensorType.parse("i64[1, n]"))], {}, {"n": Range(1, 512)})
    return compressed(b, b.gather(b.constant(table(), "w"), b.input("x"), axis=0), spec)


def linear(spec: str = "", activations: Activations = "none") -> Program:
    b = Builder.new("main", [("x", TensorType.parse("f32[n, 256]"))], {}, {"n": Range(1, 512)})
    w = b.constant(table(), "w")
    return compressed(b, b.linear(b.input("x"), w, None, activations=activations), spec)


def compressed(b: Builder, result: Value, spec: str) -> Program:
    program = Program({"main": b.finish([result])}, b.graph.constants).verify()
    return parse_pipeline([spec] if spec else []).run(program)[0]


# ------------------------------------------------------------------ forms
def ours(**options: object) -> Write:
    """As target onnx writes it."""
    target = Onnx(**options)  # type: ignore[arg-type]
    return lambda program, folder: target.emit(target.legalize(program), folder)


def eight_bits_packed(program: Program, folder: Path) -> None:
    """Exact products of packed 8-bit weights, which the target does not use."""
    with patch.object(packed, "PACKED_BITS", (2, 4, 8)):
        ours(weights="packed")(program, folder)


def dequantize_linear(columns: bool = False) -> Write:
    """DequantizeLinear on the whole tensor, then the op; `columns`: stored as [K, N]."""

    def write(program: Program, folder: Path) -> None:
        encoding = next(iter(program.constants.values())).encoding
        assert isinstance(encoding, Affine)
        codes, scale = encoding.codes, encoding.scale.float()
        axis, shape = 1, (N, K)
        if columns:
            codes, scale, axis, shape = codes.t().contiguous(), scale.t().contiguous(), 0, (K, N)
        blocks = f"axis={axis}, block_size={K // encoding.scale.shape[1]}"
        if encoding.scale.shape[1] == 1:
            blocks, scale = f"axis={1 - axis}", scale.reshape(-1)
        model = parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> main '
            f"{READERS[program.main.nodes[0].op.name, columns].format(blocks)}"
        )
        model.graph.initializer.extend([_codes(codes, encoding.bits, shape), to_proto("s", scale)])
        onnx.save(model, folder / "model.onnx")

    return write


READERS = {
    ("gather", False): "(int64[1, n] x) => (float[1, n, 256] y) "
    "{{ w = DequantizeLinear<{}>(q, s) y = Gather<axis=0>(w, x) }}",
    ("linear", False): "(float[n, 256] x) => (float[n, 8000] y) "
    "{{ w = DequantizeLinear<{}>(q, s) t = Transpose<perm=[1, 0]>(w) y = MatMul(x, t) }}",
    ("linear", True): "(float[n, 256] x) => (float[n, 8000] y) "
    "{{ w = DequantizeLinear<{}>(q, s) y = MatMul(x, w) }}",
}


def _codes(codes: torch.Tensor, bits: int, shape: tuple[int, ...]) -> TensorProto:
    """ONNX packs two codes of 4 bits into a byte, the first one low."""
    kind, raw = TensorProto.INT8, codes
    if bits == 4:
        pairs = (codes.view(-1, 2) & 15).to(torch.uint8)
        kind, raw = TensorProto.INT4, pairs[:, 0] | pairs[:, 1] << 4
    return helper.make_tensor("q", kind, shape, raw.numpy().tobytes(), raw=True)


def forms() -> tuple[Forms, Forms]:
    """Gathers and products, by the name that the README has for them."""
    lookups: Forms = {
        "f32 Gather": (gather(), ours()),
        "**int8, Gather of codes, then Cast and Mul**": (gather(INT8), ours()),
        "int8, Cast and Mul on opening, Gather": (gather(INT8), ours(weights="dense")),
        "int8, DequantizeLinear, Gather": (gather(INT8), dequantize_linear()),
        "**int4 g32, GatherBlockQuantized**": (gather(INT4), ours()),
        "int4 g32, bit operations on opening, Gather": (gather(INT4), ours(weights="dense")),
        "int4 g32, DequantizeLinear, Gather": (gather(INT4), dequantize_linear()),
    }
    products: Forms = {
        "f32 MatMul": (linear(), ours()),
        "**int8, Cast and Mul on opening**": (linear(INT8), ours()),
        "**int4 g32, MatMulNBits**": (linear(INT4), ours(weights="packed")),
        "**int4 g32, bit operations on opening**": (linear(INT4), ours(weights="dense")),
        "int8, MatMulNBits": (linear(INT8), eight_bits_packed),
        "int8, DequantizeLinear": (linear(INT8), dequantize_linear()),
        "int4 g32, DequantizeLinear on [N, K]": (linear(INT4), dequantize_linear()),
        "int4 g32, DequantizeLinear on [K, N]": (linear(INT4), dequantize_linear(columns=True)),
        "**int8, `activations=dynamic`: MatMulInteger**": (linear(INT8, "dynamic"), ours()),
        "**int8, `activations=dynamic_token`: MatMulInteger**": (
            linear(INT8, "dynamic_token"),
            ours(),
        ),
        "**int4 g32, `accuracy_level=4`: MatMulNBits**": (linear(INT4), ours(accuracy_level=4)),
    }
    return lookups, products


# ------------------------------------------------------------------ measuring
def milliseconds(call: Callable[[], object], calls: int = 1) -> float:
    started = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - started) / calls * 1e3


def opened(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def show(forms: Forms, feeds: Feeds) -> None:
    """Print the table of `forms` on `feeds`, by their headings."""
    print("\n| form | bytes | opening | deviation |", " | ".join(feeds), "|")
    print("|---" * (4 + len(feeds)) + "|")
    times = {(n, label): float("inf") for n in forms for label in feeds}
    sessions, heads = {}, {}
    for name, (program, write) in forms.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write(program, Path(folder))
            opening = min(milliseconds(functools.partial(opened, path)) for _ in range(3))
            sessions[name] = opened(path)
            heads[name] = path.stat().st_size, opening, deviation(sessions[name], program, feeds)
    for label, x in feeds.items():
        for _ in range(TURNS):
            for name, session in sessions.items():
                call = functools.partial(session.run, None, {"x": x.numpy()})
                calls = max(1, min(20, int(2 / milliseconds(call))))
                times[name, label] = min(times[name, label], milliseconds(call, calls))
    for name, (nbytes, opening, found) in heads.items():
        row = " | ".join(f"{times[name, label]:.2g}" for label in feeds)
        print(f"| {name} | {nbytes:,} | {opening:.0f} | {100 * found:.1g} % | {row} |")


def deviation(session: ort.InferenceSession, program: Program, feeds: Feeds) -> float:
    """From the op on the decoded weights, activations as they are."""
    x = list(feeds.values())[-1]
    exact = linear() if program.main.nodes[0].op.name == "linear" else gather()
    exact.constants.update(program.constants)
    (want,) = Interpreter(exact, compute=torch.float64).run([x])
    (got,) = session.run(None, {"x": x.numpy()})
    return float((torch.from_numpy(got) - want).abs().max() / want.abs().max())


if __name__ == "__main__":
    generator = torch.Generator().manual_seed(1)
    lookups, products = forms()
    ids = {f"n = {n}": torch.randint(0, N, (1, n), generator=generator) for n in (1, 32)}
    show(lookups, ids)
    show(products, {f"M = {m}": torch.randn(m, K, generator=generator) for m in (1, 8, 32)})
