"""The oracle against the formulas written out in numpy, and against torch and ONNX at the edges."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgec.ir import OPS
from edgec.ir.text import parse_attributes
from edgec.ops.activation_quantization import quantized
from edgec.ops.linear import Linear
from tests.cases.case import Case
from tests.cases.ops import CASES
from tests.ops.reference import REFERENCES


def build(name: str, attributes: str = ""):
    return parse_attributes(OPS[name], attributes, name)


def wide(t: torch.Tensor | None) -> torch.Tensor | None:
    return t.double() if t is not None and t.dtype == torch.float32 else t


def test_every_op_has_a_reference() -> None:
    assert set(REFERENCES) == set(OPS)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_evaluate_against_numpy(case: Case) -> None:
    for seed, env in enumerate(case.sizes):
        op, samples = case.build().bind(env), [wide(t) for t in case.samples(env, seed)]
        made = op.evaluate(*samples)
        arrays = [None if t is None else t.numpy() for t in samples]
        expected = REFERENCES[case.op](op, *arrays)
        pairs = zip(
            made if isinstance(made, tuple) else (made,),
            expected if isinstance(expected, tuple) else (expected,),
            strict=True,
        )
        for actual, wanted in pairs:
            exact = not actual.dtype.is_floating_point
            tolerance = 0 if exact else 1e-5 if actual.dtype == torch.float32 else 1e-9
            np.testing.assert_allclose(actual.numpy(), wanted, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------ against torch
def generated(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize("stride", (1, 2, 3))
@pytest.mark.parametrize("ceil", (False, True))
def test_pools_have_torch_sizes_and_values(size: int, stride: int, ceil: bool) -> None:
    x = generated(2, 3, size)
    for kernel, pad in ((2, 0), (2, 1), (3, 1), (4, 2)):
        shared = f"kernel=[{kernel}], stride=[{stride}], padding=[[{pad}, {pad}]], ceil_mode={ceil}"
        most = F.max_pool1d(x, kernel, stride, pad, 1, ceil)
        assert torch.equal(build("max_pool", f"{shared}, dilation=[1]").evaluate(x), most)
        for include in (False, True):
            mean = F.avg_pool1d(x, kernel, stride, pad, ceil, include)
            op = build("avg_pool", f"{shared}, count_include_pad={include}")
            torch.testing.assert_close(op.evaluate(x), mean)


@pytest.mark.parametrize("kind", ("bool", "float"))
def test_attention_rows_that_see_nothing_are_zero_as_in_torch(kind: str) -> None:
    q, k, v = (generated(2, 3, 4, 8, seed=i) for i in range(3))
    visible = torch.ones(4, 4, dtype=torch.bool).index_fill(0, torch.tensor([1, 3]), False)
    mask = (
        visible if kind == "bool" else torch.zeros(4, 4).double().masked_fill(~visible, -math.inf)
    )
    y = build("attention").evaluate(q, k, v, mask)
    assert torch.equal(y, F.scaled_dot_product_attention(q, k, v, mask))
    assert torch.equal(y[:, :, [1, 3]], torch.zeros(2, 3, 2, 8).double())
    assert torch.isfinite(y).all()


def test_attention_without_keys_is_zero() -> None:
    q, empty = generated(1, 2, 3, 4), generated(1, 2, 0, 4)
    assert torch.equal(build("attention").evaluate(q, empty, empty), torch.zeros_like(q))


def test_topk_agrees_with_torch_on_values() -> None:
    x = generated(5, 30)
    values, indices = build("topk", "k=7").evaluate(x)
    assert torch.equal(values, torch.topk(x, 7).values)
    assert torch.equal(x.gather(1, indices), values)


def test_floor_div_and_mod_of_floats_follow_torch() -> None:
    a, b = torch.tensor([1.0, -1.0, 5.5]).double(), torch.tensor(0.1).double()
    assert torch.equal(build("floor_div").evaluate(a, b), torch.floor_divide(a, b))
    assert torch.equal(build("mod").evaluate(a, b), torch.remainder(a, b))


@pytest.mark.parametrize("op", ("minimum", "maximum"))
def test_extrema_keep_nan(op: str) -> None:
    a, b = torch.tensor([math.nan, 1.0]), torch.tensor([0.0, math.nan])
    assert build(op).evaluate(a, b).isnan().all()


def test_where_drops_values_that_are_not_chosen() -> None:
    cond = torch.tensor([True, False])
    a, b = torch.tensor([1.0, math.nan]), torch.tensor([math.inf, 2.0])
    assert build("where").evaluate(cond, a, b).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("op", ("lstm", "gru"))
def test_recurrent_operands_are_those_of_the_torch_module(op: str) -> None:
    torch.manual_seed(0)
    cls = torch.nn.LSTM if op == "lstm" else torch.nn.GRU
    module = cls(3, 5, num_layers=2, bidirectional=True, batch_first=True).double()
    x, h, c = generated(2, 7, 3), generated(4, 2, 5, seed=1), generated(4, 2, 5, seed=2)
    states = (h, c) if op == "lstm" else (h,)
    expected, ends = module(x, states if op == "lstm" else h)
    made = build(op, "hidden=5, layers=2, bidirectional=True, bias=True").evaluate(
        x, *states, *module.parameters()
    )
    for a, e in zip(made, (expected, *(ends if op == "lstm" else (ends,))), strict=True):
        torch.testing.assert_close(a, e)


# ------------------------------------------------------------------ against ONNX
@pytest.mark.parametrize("low,high", ((-3.0, 5.0), (0.5, 2.0), (-2.0, -0.25), (0.0, 0.0)))
def test_dynamic_activations_are_dynamic_quantize_linear(low: float, high: float) -> None:
    """ONNX's definition: x_hat = (y - zero) scale of DynamicQuantizeLinear's results."""
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 50])
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.UINT8, [6, 50]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("zero", TensorProto.UINT8, []),
    ]
    graph = helper.make_graph([node], "g", [x_info], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    x = (low + (high - low) * torch.rand(6, 50, generator=torch.Generator().manual_seed(0))).float()
    if low == high == 0.0:
        assert torch.equal(
            quantized(x, Linear("dynamic"), (-1,)), x
        )  # ONNX leaves a scale of 0 open
        return
    y, scale, zero = map(np.asarray, ReferenceEvaluator(model).run(None, {"x": x.numpy()}))
    wanted = (y.astype(np.float32) - zero.astype(np.float32)) * scale
    np.testing.assert_allclose(quantized(x, Linear("dynamic"), (-1,)).numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("scale,zero", ((0.03125, 100), (0.0078125, 0), (0.011, 255), (1e30, 7)))
def test_static_activations_are_quantize_linear(scale: float, zero: int) -> None:
    """ONNX's definition, halves and values beyond the codes included."""
    scale = float(np.float32(scale))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [600]) for n in "xy"]
    stored = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [scale]),
        helper.make_tensor("z", TensorProto.UINT8, [], [zero]),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    x = torch.arange(-300, 300).float() / 2 * scale
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    made = quantized(x, Linear("static", scale, zero), (-1,))
    np.testing.assert_array_equal(made.numpy(), wanted)


@pytest.mark.parametrize("kind", ("dynamic", "dynamic_token"))
def test_a_scale_that_is_too_small_for_its_type_counts_as_1(kind: Literal["dynamic"]) -> None:
    x = torch.tensor([[1e-45, 0.0], [-1e-45, 1e-45]])
    assert torch.equal(quantized(x, Linear(kind), (-1,)).abs(), torch.zeros(2, 2))


# ------------------------------------------------------------------ errors at run time
def test_a_slice_beyond_the_end_is_an_error_and_not_clipped() -> None:
    with pytest.raises(RuntimeError):
        build("slice", "axis=0, start=1, stop=9").evaluate(torch.zeros(4))
