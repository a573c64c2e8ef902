"""One constant that several nodes read in different layouts, or inside and outside of a loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Encoding, Program, TensorType
from edgec.kernels.panel_layouts import Arrays
from edgec.kernels.panel_packing import pack
from edgec.kernels.panels import Panels
from edgec.targets.native import Native, weights
from edgec.targets.native.lower import lower_function
from edgec.targets.native.statements import Call, Loop
from edgec.targets.native.weights import Weights

F32 = DType.F32


def test_transposed_convolutions_of_other_numbers_of_groups(tmp_path: Path) -> None:
    torch.manual_seed(0)
    b = Builder.new("main", [("x", TensorType(F32, (1, 4, 5, 5)))])
    w = b.constant(torch.randn(4, 2, 3, 3))
    pair = (1, 1)
    made = [
        b.conv_transpose(
            b.input("x"),
            w,
            stride=pair,
            padding=(0, 0),
            output_padding=(0, 0),
            dilation=pair,
            groups=groups,
        )
        for groups in (1, 2, 4)
    ]
    graph = b.finish(made)
    program, x = Program({"main": graph}, graph.constants), torch.randn(1, 4, 5, 5)
    Native().emit(Native().legalize(program), tmp_path)
    wanted = Interpreter(program).run([x])
    for got, want in zip(Native.load(tmp_path).run("main", [x]), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_a_bias_is_decoded_ahead_of_the_loop_that_reads_it() -> None:
    """And not in each of its steps."""
    x, h = TensorType(F32, (2, 6, 3)), TensorType(F32, (1, 2, 4))
    b = Builder.new("main", [("x", x), ("h", h)])
    b.graph.constants["bias"] = Constant("bias", Dense(torch.randn(4).half(), F32))
    given = [b.input("x"), b.input("h")]
    weights = [b.constant(torch.randn(4, n), "w") for n in (3, 4)]
    made = b.rnn(
        *given, *weights, "@bias", "@bias", hidden=4, layers=1, bidirectional=False, bias=True
    )
    graph = b.finish(made)
    statements = lower_function(graph, Weights(graph.constants), []).statements
    (loop,) = [s for s in statements if isinstance(s, Loop)]
    inside = [s.kernel.family for s in loop.body if isinstance(s, Call)]
    outside = [s.kernel.family for s in statements if isinstance(s, Call)]
    assert "decode" not in inside
    assert outside.count("decode") == 1


def test_a_constant_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[Encoding] = []

    def remembered(encoding: Encoding) -> tuple[Panels, Arrays]:
        packed.append(encoding)
        return pack(encoding)

    monkeypatch.setattr(weights, "pack", remembered)
    constant = Constant("w", Dense(torch.randn(8, 5)))
    made = Weights({"w": constant})
    first = made.panels(constant)
    assert made.panels(constant) is first and len(packed) == 1
    turned = Constant("w", Dense(torch.randn(5, 8)))
    assert made.panels(turned, "transposed panels") is not first and len(packed) == 2
