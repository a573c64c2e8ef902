"""The table of targets/onnx/README.md that says how rounded activations are multiplied, and why.

    python -m tests.targets.onnx.measure_activation_forms

Layers with 8-bit weights and one scale and zero point for what they read, written in several ways.
The forms take turns, and what counts is the least CPU time of one thread. `deviation` is the
greatest difference from the definition in float64, as a part of its greatest magnitude.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import numpy_helper, parser

from edgec.ops.activation_quantization import quantized
from edgec.ops.linear import Linear
from tests.targets.onnx.measure_forms import milliseconds

TURNS, SCALE, ZERO = 12, 6 / 255, 120
Arrays = Mapping[str, np.ndarray]

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '
SIGNATURE = "main (float[{}] x) => (float[{}] y) "
Q = "q = QuantizeLinear(x, s, z) "
DECODED = "a = Cast<to = 1>(wq) w = Mul(a, ws) "
VALUES = "b = Cast<to = 1>(q) c = Sub(b, zf) d = Mul(c, s) "

PRODUCTS: Mapping[str, str] = {
    "f32 MatMul": DECODED + "m = MatMul(x, w) y = Add(m, bias)",
    "QuantizeLinear, MatMulInteger, Cast, Mul, Add": Q
    + "i = MatMulInteger(q, wq, z) f = Cast<to = 1>(i) t = Mul(s, ws) m = Mul(f, t) "
    "y = Add(m, bias)",
    "**QuantizeLinear, MatMulIntegerToFloat**": Q
    + "y = com.microsoft.MatMulIntegerToFloat(q, wq, s, ws, z, , bias)",
    "DynamicQuantizeMatMul (`dynamic`)": "q, ds, dz = DynamicQuantizeLinear(x) "
    "i = MatMulInteger(q, wq, dz) f = Cast<to = 1>(i) t = Mul(ds, ws) m = Mul(f, t) "
    "y = Add(m, bias)",
    "rounded values, f32 MatMul": Q + VALUES + DECODED + "m = MatMul(d, w) y = Add(m, bias)",
    "QuantizeLinear, QLinearMatMul, DequantizeLinear": Q
    + "p = QLinearMatMul(q, s, z, wq, ws, wz, sy, zy) m = DequantizeLinear(p, sy, zy) "
    "y = Add(m, bias)",
}
CONV = "Conv<pads = [{0}, {0}, {0}, {0}], group = {1}>"
CONVOLUTIONS: Mapping[str, str] = {
    "f32 Conv": DECODED + f"y = {CONV}(x, w, bias)",
    "**rounded values, f32 Conv**": Q + VALUES + DECODED + f"y = {CONV}(d, w, bias)",
    "QuantizeLinear, DequantizeLinear, f32 Conv": Q
    + DECODED
    + f"d = DequantizeLinear(q, s, z) y = {CONV}(d, w, bias)",
    "QuantizeLinear, ConvInteger, Cast, Mul, Add": Q
    + f"i = {CONV.replace('Conv', 'ConvInteger')}(q, wq, z) f = Cast<to = 1>(i) t = Mul(s, ws) "
    "u = Reshape(t, channels) m = Mul(f, u) v = Reshape(bias, channels) y = Add(m, v)",
    "QuantizeLinear, QLinearConv, DequantizeLinear": Q
    + f"p = {CONV.replace('Conv', 'QLinearConv')}(q, s, z, wq, wf, wz, sy, zy, bi) "
    "y = DequantizeLinear(p, sy, zy)",
}


@dataclass(frozen=True)
class Layer:
    """One layer: its heading, forms, input, constants and what it has to give."""

    heading: str
    forms: Mapping[str, str]
    x: torch.Tensor
    constants: Arrays
    want: torch.Tensor


def codes(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-127, 128, shape, generator=generator).to(torch.int8)


def constants(w: torch.Tensor, want: torch.Tensor, columns: bool) -> dict[str, np.ndarray]:
    """Of a layer with the codes w[N, ...]; `columns`: as [K, N], scales along the last axis."""
    rows = (torch.arange(len(w)) % 7 + 4) / (7 * 127)
    step = float(want.abs().max()) / 127
    bias = torch.linspace(-1, 1, len(w))
    shaped = rows if columns else rows.reshape(-1, *[1] * (w.dim() - 1))
    made = {
        "wq": w.t() if columns else w,
        "ws": shaped,
        "wf": rows,
        "wz": torch.zeros(len(w), dtype=torch.int8),
        "bias": bias,
        "bi": (bias / (rows * SCALE)).round().to(torch.int32),
        "s": torch.tensor(SCALE),
        "z": torch.tensor(ZERO, dtype=torch.uint8),
        "zf": torch.tensor(float(ZERO)),
        "sy": torch.tensor(step),
        "zy": torch.tensor(128, dtype=torch.uint8),
        "channels": torch.tensor([1, -1, 1, 1]),
    }
    return {name: t.contiguous().numpy() for name, t in made.items()}


def rounded(x: torch.Tensor) -> torch.Tensor:
    return quantized(x, Linear("static", float(np.float32(SCALE)), ZERO), (-1,)).double()


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def decoded(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias in float64."""
    found = constants(w, torch.ones(1), False)
    scales, bias = (torch.from_numpy(found[n]).double() for n in ("wf", "bias"))
    return w.double() * scales.reshape(-1, *[1] * (w.dim() - 1)), bias


def product(rows: int, n: int = 1024, k: int = 256) -> Layer:
    x, w = randn(rows, k), codes(n, k)
    want = F.linear(rounded(x), *decoded(w))
    return Layer(f"[{rows}, {k}] x [{k}, {n}]", PRODUCTS, x, constants(w, want, True), want)


def convolution(channels: int, count: int, side: int, size: int, groups: int = 1) -> Layer:
    x, w = randn(1, channels, side, side), codes(count, channels // groups, size, size)
    want = F.conv2d(rounded(x), *decoded(w), padding=size // 2, groups=groups)
    forms = {name: text.format(size // 2, groups) for name, text in CONVOLUTIONS.items()}
    kind = "depthwise " if groups > 1 else ""
    heading = f"{kind}{size} x {size}, {channels} to {count}, {side} x {side}"
    return Layer(heading, forms, x, constants(w, want, False), want)


def session(layer: Layer, body: str) -> ort.InferenceSession:
    shapes = (", ".join(map(str, t.shape)) for t in (layer.x, layer.want))
    model = parser.parse_model(HEAD + SIGNATURE.format(*shapes) + "{ " + body + " }")
    read = {name for node in model.graph.node for name in node.input}
    tensors = (numpy_helper.from_array(a, n) for n, a in layer.constants.items() if n in read)
    model.graph.initializer.extend(tensors)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def show(layers: Sequence[Layer]) -> None:
    """Print the table of layers that have the same forms."""
    print("\n| form | deviation |", " | ".join(layer.heading for layer in layers), "|")
    print("|---" * (2 + len(layers)) + "|")
    best: dict[tuple[str, str], float] = {}
    worst: dict[str, float] = {}
    for layer in layers:
        feed = {"x": layer.x.numpy()}
        opened = {name: session(layer, body) for name, body in layer.forms.items()}
        for name, file in opened.items():
            (got,) = file.run(None, feed)
            off = (torch.from_numpy(got) - layer.want).abs().max() / layer.want.abs().max()
            worst[name] = max(worst.get(name, 0.0), float(off))
        for _ in range(TURNS):
            for name, file in opened.items():
                call = functools.partial(file.run, None, feed)
                calls = max(1, min(20, int(2 / max(milliseconds(call), 1e-3))))
                took = milliseconds(call, calls)
                best[name, layer.heading] = min(best.get((name, layer.heading), 1e9), took)
    for name, largest in worst.items():
        times = " | ".join(f"{best[name, layer.heading]:.2g}" for layer in layers)
        print(f"| {name} | {100 * largest:.1g} % | {times} |")


if __name__ == "__main__":
    show([product(1), product(8), product(32), product(197)])
    dense = [convolution(64, 64, 28, 3), convolution(256, 256, 14, 3), convolution(64, 128, 28, 1)]
    show([*dense, convolution(64, 64, 28, 3, 64)])
