"""The rule that says how far an artifact may be from its graph."""

from __future__ import annotations

import math

import pytest
import torch

from edgec.ir import Builder, DType, Graph, Range, TensorType, symbol
from edgec.validate.tolerance import LIMIT, OWN_ERROR, STANDARD, bounds, tolerance

EPS = torch.finfo(torch.float32).eps
BATCH = symbol("batch")


def builder(width: int = 64) -> Builder:
    return Builder.new(
        "main", [("x", TensorType(DType.F32, (BATCH, width)))], {}, {"batch": Range(1, 8)}
    )


def bound(graph: Graph) -> float:
    return bounds(graph, {"batch": 2})[graph.outputs[0]]


def test_moving_numbers_allows_nothing() -> None:
    b = builder()
    graph = b.finish([b.permute(b.reshape(b.input("x"), shape=(BATCH, 8, 8)), order=(0, 2, 1))])
    assert bound(graph) == 0.0
    assert tolerance(bound(graph), own_error=1.0) == 0.0


def test_one_product_may_deviate_by_its_sums() -> None:
    b = builder()
    graph = b.finish([b.linear(b.input("x"), b.constant(torch.zeros(5, 64)), None)])
    assert bound(graph) == pytest.approx(STANDARD * EPS * math.sqrt(64))


def test_errors_of_a_path_add_as_squares_and_the_worst_path_counts() -> None:
    b = builder()
    w = b.constant(torch.zeros(64, 64), "w")
    long = b.linear(b.linear(b.linear(b.input("x"), w, None), w, None), w, None)
    one = STANDARD * EPS * 8
    total = math.sqrt(3 * one**2 + (STANDARD * EPS) ** 2)
    assert bound(b.finish([b.add(long, b.input("x"))])) == pytest.approx(total)


def test_half_precision_has_its_own_eps() -> None:
    b = builder()
    half = b.cast(b.input("x"), dtype=DType.F16)
    graph = b.finish([b.add(half, half)])
    assert bound(graph) == pytest.approx(STANDARD * torch.finfo(torch.float16).eps)


def test_integers_are_exact_unless_rounded_numbers_led_to_them() -> None:
    b = Builder.new("main", [("i", TensorType(DType.I64, (4,)))])
    assert bound(b.finish([b.add(b.input("i"), b.input("i"))])) == 0.0
    b = builder()
    scores = b.linear(b.input("x"), b.constant(torch.zeros(5, 64)), None)
    assert bound(b.finish([b.argmax(scores, axis=1)])) > 0.0


def test_an_ill_conditioned_graph_is_held_to_its_own_error() -> None:
    assert tolerance(1e-6, own_error=0.0) == 1e-6
    assert tolerance(1e-6, own_error=1e-4) == pytest.approx(OWN_ERROR * 1e-4)
    assert tolerance(1e-6, own_error=1.0) == LIMIT
